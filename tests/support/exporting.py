"""What the tests of the export share: small models, models in which a wrong conversion of any layer would show."""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.places import ROOT
from zoo.backbones import FlatNeck, blueprint_of, create_backbone, save_timm
from zoo.export import artifacts
from zoo.export.onnx import write_onnx
from zoo.export.parity import MAX_RELATIVE, crops_for_parity
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo

DIM = 37
SMALL = "mobilefacenet"


def trained_a_little(model: nn.Module, size: tuple[int, int] = (112, 112)) -> nn.Module:
    """Statistics, scales and shifts of its own in every layer.

    timm starts the last norm of a residual branch at zero and ConvNeXt's layer scale at a millionth: whatever such
    a branch computes, rightly or wrongly, would not reach the embedding.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.3, 0.3)
            elif parameter.ndim == 1 and parameter.abs().max() < 1e-3:
                parameter.uniform_(1.0, 2.0)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        for module in norms:
            module.momentum = 1.0  # the statistics of these crops alone: else every crop gives nearly one embedding
        model.train()(torch.from_numpy(InputSpec(size=size).to_input(crops_for_parity(size, 8))))
        for module in norms:
            module.weight.mul_(torch.empty_like(module.weight).uniform_(0.7, 1.3))
    return model.eval()


def silent_layers(model: nn.Module, x: torch.Tensor) -> list[str]:
    """The layers with weights, by name, that hardly reach the embedding: negating one changes nothing."""
    silent = []
    with torch.no_grad():
        expected = model(x)
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.neg_()
                change = (model(x) - expected).abs().max() / expected.abs().max()
                module.weight.neg_()
                if change < 2 * MAX_RELATIVE:
                    silent.append(name)
    return silent


def traces_of_this_machine(content: bytes) -> list[str]:
    """What a file tells of where it was made: paths of the checkout, of Python and of temporary files, stack traces."""
    here = str(ROOT)
    words = [here, sys.prefix, "site-packages", f"{Path.home()}/", "/tmp/", ".py", 'File "', "stack_trace"]
    return [word for word in words if word.encode() in content]


def require_same(path: Path, model: nn.Module) -> None:
    """The file and torch, compared without any code of zoo.export."""
    crops = crops_for_parity((112, 112), 3)
    with torch.inference_mode():
        expected = model(torch.from_numpy(InputSpec().to_input(crops))).numpy()
    found = OnnxEmbedder(path, device="cpu")(crops)
    assert np.abs(found - expected).max() <= MAX_RELATIVE * np.abs(expected).max()


class Tiny(nn.Module):
    """The smallest embedder with a flat neck: what tests of the machinery export."""

    def __init__(self, size: tuple[int, int] = (112, 112)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 16, 16)
        self.norm = nn.BatchNorm2d(5)
        self.neck = FlatNeck(5, size[0] // 16, size[1] // 16, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.neck(self.norm(self.conv(x)).relu())
        return embedding


@functools.cache
def backbone(name: str) -> nn.Module:
    torch.manual_seed(0)
    return trained_a_little(create_backbone(name, DIM))


def info_for(name: str) -> ModelInfo:
    model = backbone(name)
    return ModelInfo(
        DIM, backbone=name, neck=blueprint_of(model).neck, stem="face", head="softmax", training_set="none"
    )


@torch.library.custom_op("zootest::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    """An operator that ONNX has never heard of."""
    return x.clone()


@odd.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.zootest.odd(x)
        return result


class Flat(nn.Module):
    """The smallest embedder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 7, 16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.conv(x).relu().mean((2, 3))
        return embedding


def make_run(root: Path) -> Path:
    """A finished run called `first` below `root`/runs."""
    run = root / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}\n")
    save_timm(backbone(SMALL), run, asdict(info_for(SMALL)))
    return run


def make_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """timm's smallest model in a folder of its layout; variants are compared on few pairs and for a short time."""
    monkeypatch.setattr(artifacts, "SYNTHETIC_PAIRS", 40)
    plain = artifacts.latency
    monkeypatch.setattr(artifacts, "latency", lambda paths, batch, threads: plain(paths, batch, threads, seconds=0.05))
    torch.manual_seed(0)
    model = create_backbone("test_resnet", DIM, stem="stock", neck="gap")
    model.train()(torch.randn(8, 3, 112, 112))
    save_timm(model, folder, asdict(ModelInfo(DIM, backbone="test_resnet", neck="gap", stem="stock")))
    return folder


def write_flat(path: Path) -> Path:
    """A file that zoo wrote: `Flat` with some facts."""
    write_onnx(Flat(), path, ModelInfo(7, backbone="flat", head="arcface(scale=64)"), batches=(1, 2))
    return path
