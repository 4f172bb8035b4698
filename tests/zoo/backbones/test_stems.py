"""The face stem: 7×7 maps or 14×14 tokens, the stock stem unchanged, and what is removed with timm's classifier."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from zoo.backbones import FaceBackbone, create_backbone
from zoo.backbones.stems import drop_unused_children, features_of, halve_first_stride
from zoo.errors import InputError

DIM = 37


@pytest.mark.parametrize("name", ["hrnet_w18_small", "efficientformerv2_s0", "hiera_tiny_224"])
@pytest.mark.parametrize("neck", ["gap", "native"])
def test_a_family_that_cannot_process_crops_is_told_its_size_and_another_backbone(name: str, neck: str) -> None:
    with pytest.raises(InputError) as caught:
        create_backbone(name, 8, stem="stock", neck=neck)
    told = str(caught.value)
    assert told.startswith(f"{name} cannot process crops of 112×112: its layers fit pictures of 224×224")
    assert "; give --image-size 224 or choose another backbone, such as convnext_atto" in told and "\n" not in told
    assert create_backbone(name, 8, stem="stock", neck=neck, image_size=(224, 224)).num_classes == 8


def test_a_family_whose_stride_cannot_be_halved_names_the_stock_stem() -> None:
    with pytest.raises(InputError, match=r'use stem="stock"'):
        create_backbone("inception_v3", DIM)


def test_parallel_branches_of_a_stem_are_halved_together() -> None:
    model = create_backbone("repvgg_a0", DIM)
    assert isinstance(model, FaceBackbone)
    assert len(model.halved) == 2


def test_a_halved_patch_sees_the_picture_as_the_stock_one_sees_it_enlarged_twofold() -> None:
    body = timm.create_model("convnext_atto", num_classes=0)
    x = torch.randn(1, 3, 48, 48)
    enlarged = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    with torch.no_grad():
        expected = body.stem[0](enlarged)
        assert halve_first_stride(body, x) == ["stem.0"]
        found = body.stem[0](x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_dropping_timms_classifier_leaves_the_features_as_they_were() -> None:
    body = timm.create_model("mobilenetv3_large_100", num_classes=0)
    x = torch.randn(1, 3, 64, 64)
    before = features_of(body, x)
    parameters = sum(p.numel() for p in body.parameters())
    drop_unused_children(body, x)
    assert torch.equal(features_of(body, x), before)
    assert sum(p.numel() for p in body.parameters()) < parameters


def test_the_stock_stem_is_timms_own() -> None:
    stock = create_backbone("resnet18", DIM, neck="native", stem="stock")
    assert type(stock) is type(timm.create_model("resnet18", num_classes=DIM))
    assert features_of(stock, torch.zeros(1, 3, 112, 112)).shape == (1, 512, 4, 4)
