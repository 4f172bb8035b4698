"""Face backbones: any timm model with the face stem and a neck builds and trains a step; wrong options are told."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from zoo.backbones import FaceBackbone, blueprint_of, create_backbone
from zoo.backbones.stems import features_of
from zoo.errors import InputError

NECK_OF = {
    "resnet18": "flat",
    "resnet50": "gap",
    "convnext_atto": "flat",
    "mobilenetv3_large_100": "gap",
    "efficientnet_b0": "gap",
    "vit_tiny_patch16_224": "gap",
    "edgenext_xx_small": "flat",
    "iresnet18": "native",
    "iresnet50": "native",
    "mobilefacenet": "native",
}
"""The named alternatives and the neck that each takes by itself."""
DIM = 37


@functools.cache
def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create_backbone(name, embedding_dim=DIM)


def body_of(model: nn.Module) -> nn.Module:
    return model.body if isinstance(model, FaceBackbone) else model


@pytest.mark.parametrize("name", NECK_OF)
def test_a_named_backbone_embeds_trains_a_step_and_wastes_no_parameter(name: str) -> None:
    model = built(name).train()
    built_as = blueprint_of(model)
    assert (built_as.backbone, built_as.neck, built_as.embedding_dim) == (name, NECK_OF[name], DIM)
    embedding = model(torch.randn(2, 3, 112, 112))
    assert embedding.shape == (2, DIM)
    before = [p.detach().clone() for p in model.parameters()]
    embedding.square().sum().backward()
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, p in learning if p.grad is None] == []
    torch.optim.SGD([p for _, p in learning], lr=1e-3).step()
    model.zero_grad(set_to_none=True)
    after = list(model.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NECK_OF)
def test_the_face_stem_leaves_seven_by_seven_or_fourteen_by_fourteen_tokens(name: str) -> None:
    body = body_of(built(name))
    shape = features_of(body, torch.zeros(1, 3, 112, 112)).shape
    assert shape[1:] == (197, 192) if name.startswith("vit") else shape[2:] == (7, 7)


def test_a_windowed_transformer_gets_its_channels_last_map_turned() -> None:
    model = create_backbone("swin_tiny_patch4_window7_224", DIM, neck="gap")
    assert isinstance(model, FaceBackbone) and model.channels_last
    assert model.neck[3].in_features == 768
    assert model.eval()(torch.zeros(1, 3, 112, 112)).shape == (1, DIM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "did you mean resnet"),
        ({"name": "hf-hub:somebody/something"}, "found the source"),
        ({"name": "face_backbone"}, "no model called"),
        ({"name": "resnet18", "stem": "fase"}, "did you mean face"),
        ({"name": "resnet18", "neck": "flatt"}, "did you mean flat"),
        ({"name": "resnet18", "embedding_dim": 0}, "positive embedding dimension"),
        ({"name": "resnet18", "image_size": (8, 112)}, "at least 16 pixels"),
        ({"name": "resnet18", "dropout": 1.0}, "dropout"),
        (
            {"name": "vit_tiny_patch16_224", "options": {"img_size": 112, "num_classes": 7}},
            "found img_size, num_classes",
        ),
        ({"name": "vit_tiny_patch16_224", "image_size": (100, 100), "stem": "stock"}, "multiples of vit_tiny"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create_backbone(**arguments)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_origin_has_no_blueprint_and_a_copy_keeps_its_own() -> None:
    assert blueprint_of(copy.deepcopy(built("resnet18"))) == blueprint_of(built("resnet18"))
    with pytest.raises(InputError, match="expected a model of create_backbone or load_timm, found a Linear"):
        blueprint_of(nn.Linear(2, 3))
