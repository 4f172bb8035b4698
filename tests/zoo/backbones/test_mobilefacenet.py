"""MobileFaceNet is the network of the paper's Table 1: its size, its maps, its shortcuts."""

from __future__ import annotations

import pytest
import timm
import torch

import zoo.backbones  # noqa: F401  registers the architecture
from zoo.backbones.mobilefacenet import Bottleneck


def test_it_has_about_a_million_parameters_at_128_dimensions() -> None:
    with torch.device("meta"):
        model = timm.create_model("mobilefacenet", num_classes=128)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_003_136  # the paper says 0.99 M


def test_maps_and_repetitions_are_those_of_table_1() -> None:
    model = timm.create_model("mobilefacenet", num_classes=7).eval()
    stem = model.stem(torch.zeros(1, 3, 112, 112))
    assert stem.shape == (1, 64, 56, 56)
    assert len(model.blocks) == 5 + 1 + 6 + 1 + 2
    assert model.forward_features(torch.zeros(1, 3, 112, 112)).shape == (1, 512, 7, 7)


@pytest.mark.parametrize(("name", "blocks", "parameters"), [("mbf", 15, 2_059_520), ("mbf_large", 29, 6_314_880)])
def test_insightfaces_sizes_have_as_many_parameters_as_its_code(name: str, blocks: int, parameters: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.blocks) == blocks


def test_a_bottleneck_has_a_shortcut_only_where_its_shapes_agree() -> None:
    x = torch.randn(2, 8, 5, 5)
    for channels, stride, has_shortcut in ((8, 1, True), (8, 2, False), (9, 1, False)):
        block = Bottleneck(8, channels, 2, stride).eval()
        assert block.has_shortcut is has_shortcut
        expected = block.residual(x) + x if has_shortcut else block.residual(x)
        assert torch.equal(block(x), expected)
