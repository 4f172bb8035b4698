"""Necks, and the map that they take from any timm model's features."""

from __future__ import annotations

import torch

from zoo.backbones.necks import FlatNeck, GapNeck, as_map

DIM = 37


def test_tokens_lose_their_prefix_and_keep_their_order() -> None:
    tokens = torch.arange(2 * 7 * 3, dtype=torch.float32).reshape(2, 7, 3)
    found = as_map(tokens, prefix_tokens=2, channels_last=False)
    assert found.shape == (2, 3, 5, 1)
    assert torch.equal(found[1, :, 0, 0], tokens[1, 2])


def test_each_neck_is_what_its_name_says() -> None:
    flat, gap = FlatNeck(5, 3, 3, DIM, 0.25), GapNeck(5, DIM, 0.25)
    assert [type(m).__name__ for m in flat] == ["BatchNorm2d", "Dropout", "Flatten", "Linear", "BatchNorm1d"]
    assert [type(m).__name__ for m in gap] == ["AdaptiveAvgPool2d", "Flatten", "Dropout", "Linear", "BatchNorm1d"]
    x = torch.randn(3, 5, 3, 3)
    assert flat(x).shape == gap(x).shape == (3, DIM)
