"""FaceViT: the vision transformer of insightface's code for 112×112 crops, in the sizes that were published.

A plain ViT (Dosovitskiy et al. 2021) without class token and biases of the attention, with ReLU6, whose tokens are
concatenated, not averaged, before the embedding: every place of the aligned face has weights of its own.
"""

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from zoo.backbones.timm_model import Sizes, pair, register_sizes


class FaceViT(VisionTransformer):
    """x: float32 (batch, in_chans, H, W) → embedding (batch, num_classes), not normalised.

    Patches that do not tile the crop leave out its last rows and columns, as insightface's 9×9 ones do with 4 of 112
    pixels.
    """

    whole_patches = False

    def __init__(
        self, num_classes: int = 512, img_size: int | tuple[int, int] = 112, drop_rate: float = 0.0, **options: Any
    ) -> None:
        """`options` are those of timm's VisionTransformer: patch_size, embed_dim, depth, num_heads, mlp_ratio, …"""
        norm, act = partial(nn.LayerNorm, eps=1e-5), nn.ReLU6
        fixed: dict[str, Any] = dict.fromkeys(("qkv_bias", "class_token", "fc_norm"), False)
        fixed |= {"num_classes": 0, "global_pool": "", "norm_layer": norm, "act_layer": act}
        super().__init__(img_size=pair(img_size), drop_rate=drop_rate, **fixed, **options)
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """The neck."""
        return self.neck

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new neck with `num_classes` outputs, none for 0. `global_pool` has no effect: the neck takes all tokens."""
        self.num_classes = num_classes
        width = self.embed_dim
        self.neck: nn.Module = nn.Identity()
        if num_classes:
            self.neck = nn.Sequential(
                nn.Flatten(),
                nn.Dropout(self.drop_rate),
                nn.Linear(width * self.patch_embed.num_patches, width, bias=False),
                nn.BatchNorm1d(width),
                nn.Linear(width, num_classes, bias=False),
                nn.BatchNorm1d(num_classes),
            )

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(batch, tokens, embed_dim) → (batch, num_classes), or the mean token where there are no classes."""
        if pre_logits or self.num_classes == 0:
            return x.mean(1)
        embedding: torch.Tensor = self.neck(x)
        return embedding


SIZES: Sizes = {
    "facevit_tiny_patch9": (
        "vit_t of insightface's code, LVFace-T.",
        {"patch_size": 9, "embed_dim": 256, "depth": 12, "num_heads": 8},
    ),
    "facevit_small_patch9": (
        "vit_s of insightface's code, LVFace-S.",
        {"patch_size": 9, "embed_dim": 512, "depth": 12, "num_heads": 8},
    ),
    "facevit_base_patch9": (
        "vit_b of insightface's code, LVFace-B.",
        {"patch_size": 9, "embed_dim": 512, "depth": 24, "num_heads": 8},
    ),
    "facevit_large_patch9": (
        "vit_l of insightface's code, LVFace-L.",
        {"patch_size": 9, "embed_dim": 768, "depth": 24, "num_heads": 8},
    ),
    "facevit_small_patch8": (
        "CVLface's ViT small.",
        {"patch_size": 8, "embed_dim": 512, "depth": 12, "num_heads": 8, "mlp_ratio": 5.0},
    ),
    "facevit_base_patch8": (
        "CVLface's ViT base.",
        {"patch_size": 8, "embed_dim": 512, "depth": 24, "num_heads": 16, "mlp_ratio": 3.0},
    ),
}
register_sizes(FaceViT, SIZES, "patch_embed.proj", "neck.4", {"out_indices": 3, "feature_cls": "getter"})
