"""timm's registry and constructor, as the backbones use them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch

from zoo.backbones.timm_model import build_timm, family
from zoo.errors import InputError


def test_our_architectures_are_listed_by_timm() -> None:
    assert {"face_backbone", "mobilefacenet"} <= set(timm.list_models("*face*"))
    assert {"iresnet18", "iresnet34", "iresnet50", "iresnet100"} <= set(timm.list_models("iresnet*"))


def test_a_family_is_the_module_of_timm_whatever_the_tag() -> None:
    assert family("resnet18") == family("resnet18.a1_in1k") == "resnet"
    assert (family("iresnet18"), family("mobilefacenet")) == ("iresnet", "mobilefacenet")


@pytest.mark.parametrize(
    ("name", "pretrained", "arguments", "message"),
    [
        ("iresnet18", True, {}, "no pretrained weights for iresnet18"),
        ("resnet18", False, {"depth": 3}, "timm cannot build resnet18 with {'depth': 3}"),
        (
            "vit_tiny_patch16_224",
            False,
            {"img_size": [100, 112]},
            "in multiples of vit_tiny_patch16_224's patch",
        ),
    ],
)
def test_what_timm_cannot_build_is_told_in_one_sentence(
    name: str, pretrained: bool, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        build_timm(name, pretrained, **arguments)
    assert "\n" not in str(caught.value)


def test_a_fresh_neck_of_no_outputs_gives_pooled_features() -> None:
    model = timm.create_model("mobilefacenet", num_classes=5).eval()
    features = model.forward_features(torch.zeros(1, 3, 112, 112))
    model.reset_classifier(0)
    assert torch.equal(model.forward_head(features), features.mean((2, 3)))
    assert isinstance(model.get_classifier(), torch.nn.Identity)


@pytest.mark.parametrize(
    ("name", "channels", "reductions"),
    [
        ("iresnet18", [64, 128, 256, 512], [2, 4, 8, 16]),
        ("mobilefacenet", [64, 128, 128], [4, 8, 16]),
        ("mbf_large", [256, 256, 512, 512], [2, 4, 8, 16]),
        ("facevit_tiny_patch9", [256, 256, 256], [9, 9, 9]),
    ],
)
def test_timms_features_only_gives_the_maps_of_every_size(
    name: str, channels: list[int], reductions: list[int]
) -> None:
    model = timm.create_model(name, features_only=True).eval()
    maps = model(torch.zeros(1, 3, 112, 112))
    assert model.feature_info.channels() == channels == [features.shape[1] for features in maps]
    assert model.feature_info.reduction() == reductions
    assert [features.shape[2] for features in maps] == [112 // reduction for reduction in reductions]


def test_a_face_backbone_has_timms_methods_and_says_that_it_has_no_stages() -> None:
    model = timm.create_model("face_backbone", backbone="resnet18", num_classes=0).eval()
    x = torch.randn(2, 3, 112, 112)
    assert model(x).shape == (2, 512) == (2, model.num_features)
    assert torch.equal(model.forward_head(model.forward_features(x), pre_logits=True), model(x))
    model.reset_classifier(7)
    assert model.get_classifier() is model.neck and model.eval()(x).shape == (2, 7)
    native = timm.create_model("face_backbone", backbone="resnet18", neck="native", num_classes=5).eval()
    assert native.get_classifier() is native.body.fc
    assert torch.equal(native.forward_head(native.forward_features(x)), native(x))
    with pytest.raises(InputError, match="expected no features_only"):
        timm.create_model("face_backbone", features_only=True)
