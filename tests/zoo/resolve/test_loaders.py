"""`zoo.load` and `zoo.load_onnx` take every MODEL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.backbones import create_backbone, save_timm
from zoo.errors import InputError
from zoo.resolve import load_embedder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run called toy with a model that has not been exported."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    folder = tmp_path / "runs" / "toy"
    save_timm(create_backbone("mobilefacenet", embedding_dim=8).eval(), folder, {"embedding_dim": 8})
    (folder / "config.yaml").touch()
    return folder


@pytest.mark.parametrize("spelling", ["toy", "runs/toy", "local-dir:runs/toy"])
def test_a_torch_model_loads_by_every_spelling(run: Path, spelling: str) -> None:
    crops = torch.zeros(1, 3, 112, 112)
    with torch.no_grad():
        assert zoo.load(spelling)(crops).shape == (1, 8)
    with pytest.raises(InputError, match="export it with"):
        zoo.load_onnx(spelling)


def test_an_onnx_model_loads_by_every_spelling(run: Path) -> None:
    from tests.support.onnx_models import write_model

    write_model(run / "model.onnx")
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    expected = zoo.load_onnx(run / "model.onnx", device="cpu")(crops)
    for spelling in ("toy", "runs/toy", "local-dir:runs/toy", run):
        np.testing.assert_array_equal(zoo.load_onnx(spelling, device="cpu")(crops), expected)


def test_an_embedder_is_had_by_either_backend(run: Path) -> None:
    from tests.support.onnx_models import write_model

    write_model(run / "model.onnx")
    crops = np.zeros((2, 112, 112, 3), np.uint8)
    assert load_embedder("toy", "onnx", device="cpu")(crops).shape == (2, 5)
    by_torch = load_embedder("toy", "torch", device="cpu")
    assert by_torch(crops).shape == (2, 8) and by_torch.path.name == "model.safetensors"
    with pytest.raises(InputError, match="expected the backend onnx or torch, found 'jax'"):
        load_embedder("toy", "jax")
