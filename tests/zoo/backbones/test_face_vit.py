"""FaceViT is a ViT whose tokens are concatenated; its sizes are those that were published."""

from __future__ import annotations

import pytest
import timm
import torch

from zoo.backbones import blueprint_of, create_backbone
from zoo.backbones.face_vit import SIZES, FaceViT

PARAMETERS = {
    "facevit_tiny_patch9": 19_137_536,
    "facevit_small_patch9": 76_022_784,
    "facevit_base_patch9": 113_832_960,  # LVFace-B has 455,445,494 bytes: these in float32, and its mask token
    "facevit_large_patch9": 255_683_584,
    "facevit_small_patch8": 95_952_384,
    "facevit_base_patch8": 114_869_760,
}
"""With 512 dimensions."""


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_its_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def tiny(**options: object) -> FaceViT:
    torch.manual_seed(0)
    return FaceViT(**{"patch_size": 9, "embed_dim": 8, "depth": 1, "num_heads": 2, "img_size": 40, **options}).eval()


def test_patches_that_do_not_tile_the_crop_leave_out_its_last_rows_and_columns() -> None:
    model, x = tiny(num_classes=5), torch.randn(2, 3, 40, 40)
    other = x.clone()
    other[:, :, 36:], other[:, :, :, 36:] = 7, 7
    assert model(x).shape == (2, 5) and torch.equal(model(x), model(other))
    other[:, :, 35] = 7
    assert not torch.equal(model(x), model(other))


def test_every_token_has_weights_of_its_own() -> None:
    model = tiny(num_classes=5)
    tokens = model.forward_features(torch.randn(2, 3, 40, 40))
    assert tokens.shape == (2, 16, 8)
    assert not torch.allclose(model.forward_head(tokens), model.forward_head(tokens.flip(1)))
    assert torch.equal(model.forward_head(tokens, pre_logits=True), tokens.mean(1))


def test_without_classes_it_gives_the_mean_token_and_a_new_classifier_is_a_new_neck() -> None:
    model, x = tiny(num_classes=0), torch.randn(2, 3, 40, 40)
    assert torch.equal(model(x), model.forward_features(x).mean(1))
    model.reset_classifier(3)
    assert model.get_classifier() is model.neck and model.eval()(x).shape == (2, 3)


def test_create_backbone_takes_it_as_it_is() -> None:
    built = blueprint_of(create_backbone("facevit_tiny_patch9", 7))
    assert (built.architecture, built.neck, built.fixed_size) == ("facevit_tiny_patch9", "native", True)
