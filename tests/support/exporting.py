"""What the tests of the export share: models in which a wrong conversion of any layer would show."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.support.places import ROOT
from zoo.export.parity import MAX_RELATIVE, crops_for_parity
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec


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
