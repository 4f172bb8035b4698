"""IResNet has the layers of ArcFace's code: its numbers of parameters, and its stages."""

from __future__ import annotations

import pytest
import timm
import torch

import zoo.backbones  # noqa: F401  registers the architectures

PARAMETERS = {
    "iresnet18": 24_025_600,
    "iresnet34": 34_139_328,
    "iresnet50": 43_590_848,
    "iresnet100": 65_156_160,
    "iresnet200": 118_833_920,
}
"""With 512 dimensions: those of insightface's recognition/arcface_torch/backbones/iresnet.py."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_iresnet_has_as_many_parameters_as_arcfaces_code(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_every_stage_halves_the_map_and_odd_sides_round_up() -> None:
    model = timm.create_model("iresnet18", num_classes=7, img_size=(50, 37)).eval()
    x = model.stem(torch.zeros(1, 3, 50, 37))
    shapes = []
    for stage in model.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 25, 19), (128, 13, 10), (256, 7, 5), (512, 4, 3)]
    assert model.map_size == (4, 3)
    assert model(torch.zeros(1, 3, 50, 37)).shape == (1, 7)


def test_squeeze_and_excitation_ends_each_residual_with_a_sixteenth_of_its_channels() -> None:
    with torch.device("meta"):
        plain, gated = (timm.create_model(name, num_classes=7) for name in ("iresnet50", "iresnet50_se"))
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (plain, gated)]
    gates = sum(2 * width * (width // 16) * depth for width, depth in zip(plain.widths, (3, 4, 14, 3), strict=True))
    assert count[1] - count[0] == gates
    assert gated.stages[3][0].residual[6].fc1.weight.shape == (32, 512, 1, 1)
