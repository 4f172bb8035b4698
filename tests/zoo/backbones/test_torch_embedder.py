"""Embedding crops by a torch model: the same input as for ONNX Runtime, no trace left on the model, any folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from zoo.backbones import create_backbone, load_timm, save_timm
from zoo.backbones.timm_folder import TorchEmbedder, TorchFolder, normalise
from zoo.errors import InputError
from zoo.modelinfo import InputSpec, ModelInfo

CROPS = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_input_is_that_of_every_other_program(order: str) -> None:
    spec = InputSpec(size=(7, 5), mean=100.0, std=50.0, channel_order=order)
    assert np.array_equal(normalise(torch.from_numpy(CROPS), spec).numpy(), spec.to_input(CROPS))


@pytest.mark.parametrize("training", [True, False])
def test_embedding_leaves_the_models_mode_and_statistics_as_they_were(training: bool) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 7 * 5, 11)).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    embeddings = TorchEmbedder(model, InputSpec(size=(7, 5)))(CROPS)
    assert embeddings.shape == (3, 11) and embeddings.dtype == np.float32
    assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


FACES = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of ours whose input is BGR, to see that its facts are heeded."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    info = ModelInfo(7, InputSpec(channel_order="BGR", std=128.0), backbone="test_resnet")
    save_timm(create_backbone("test_resnet", 7, stem="stock", neck="gap").eval(), folder, asdict(info))
    return folder


def test_a_folder_is_an_embedder_with_the_input_that_it_states(folder: Path) -> None:
    model = TorchFolder(folder, device="cpu")
    with torch.no_grad():
        pixels = torch.from_numpy(((FACES[..., ::-1].astype(np.float32) - 127.5) / 128).transpose(0, 3, 1, 2).copy())
        expected = load_timm(folder)(pixels).numpy()
    np.testing.assert_allclose(model(FACES), expected, atol=1e-5)
    assert model.embedding_dim == 7 and model.info is not None and model.info.backbone == "test_resnet"
    assert model.path == folder / "model.safetensors" and len(model.model_sha256) == 64
    assert model.provider.startswith("torch ") and model.notes == [f"computed by PyTorch {torch.__version__} on cpu"]


def test_a_folder_without_our_block_is_an_embedder_too(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["zoo"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    model = TorchFolder(tmp_path, device="cpu")
    assert model.input == InputSpec(std=128.0) and model(FACES).shape == (3, 7)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(InputSpec(std=128.0).to_input(FACES))).numpy()
    np.testing.assert_allclose(model(FACES), expected, atol=1e-5)


def test_crops_of_another_size_are_resized_and_noted_or_refused(folder: Path) -> None:
    small = FACES[:, ::2, ::2]
    model = TorchFolder(folder, device="cpu")
    assert model(small).shape == model(small).shape == (3, 7)
    assert [note for note in model.notes if "resized" in note] == [
        "the crops are 56×56, the model's input 112×112: resized"
    ]
    with pytest.raises(InputError, match="leave out --strict"):
        TorchFolder(folder, device="cpu", strict=True)(small)


@pytest.mark.parametrize(("device", "sentence"), [("cuda", "PyTorch finds no CUDA GPU"), ("tensorrt", "found 'tensor")])
def test_a_device_that_is_not_there_is_refused(
    folder: Path, device: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=sentence):
        TorchFolder(folder, device=device)
