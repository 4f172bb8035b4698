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
