"""`zoo.load` and `zoo.load_onnx` take every MODEL."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.backbones import create_backbone, save_timm
from zoo.errors import InputError
from zoo.resolve import KINDS, Kind, OnnxFile, find_model, load_embedder, onnx_file, torch_folder


def make_run(name: str, started: int, *files: str) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    for file in ("config.yaml", *files):
        (folder / file).touch()
    os.utime(folder / "config.yaml", (started, started))
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_name_the_newest_run_is_meant_and_for_onnx_the_newest_exported_one() -> None:
    make_run("first", 100, "model.onnx")
    make_run("second", 200, "config.json", "model.safetensors")
    assert find_model(None).name == torch_folder(None).name == "second"
    assert onnx_file(None) == Path("runs/first/model.onnx")


def test_without_any_run_the_sentence_says_how_to_get_one() -> None:
    with pytest.raises(InputError, match=r"make one: `zoo train resnet18`"):
        onnx_file(None)
    with pytest.raises(InputError, match=r"train one with `zoo train resnet18`"):
        find_model(None)


def test_a_miss_names_the_closest_and_all_forms() -> None:
    make_run("demo", 100)
    with pytest.raises(InputError, match=r"no model is called 'dmeo'; did you mean demo\?.* OWNER/NAME"):
        find_model("dmeo")
    with pytest.raises(InputError, match=r"did you mean runs/demo\?"):
        find_model("runs/dmo")
    Path("faces.onnx").touch()
    with pytest.raises(InputError, match=r"no such file; did you mean faces.onnx\?; check the path"):
        find_model("face.onnx")


def test_a_path_is_a_model_as_its_text_is() -> None:
    Path("face.onnx").touch()
    assert find_model(Path("face.onnx")) == find_model("face.onnx") == OnnxFile(Path("face.onnx"))


def test_a_new_kind_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    special = OnnxFile(Path("special.onnx"))
    kind = Kind("the word special", lambda text: special if text == "special" else None)
    monkeypatch.setattr("zoo.resolve.KINDS", [*KINDS, kind])
    assert onnx_file("special") == Path("special.onnx")
    with pytest.raises(InputError, match="the word special"):
        find_model("nothing")


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
