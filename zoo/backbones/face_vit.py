"""FaceViT: the vision transformer of insightface's code for 112×112 crops, in the sizes that were published.

A plain ViT (Dosovitskiy et al. 2021) without class token and biases of the attention, with ReLU6, whose tokens are
concatenated, not averaged, before the embedding: every place of the aligned face has weights of its own.
"""

from functools import partial
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from zoo.backbones.timm_model import Sizes, WithNeck, pair, register_sizes


class FaceViT(WithNeck, VisionTransformer):
    """x: float32 (batch, in_chans, H, W) → embedding (batch, num_classes), not normalised."""

    whole_patches = False  # those that do not tile the crop leave out its end: insightface's 9×9, 4 of 112 pixels
    pooled = (1,)  # the tokens

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

    def make_neck(self, dim: int) -> nn.Module:
        width = self.embed_dim
        first = nn.Linear(width * self.patch_embed.num_patches, width, bias=False), nn.BatchNorm1d(width)
        second = nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim)
        return nn.Sequential(nn.Flatten(), nn.Dropout(self.drop_rate), *first, *second)


SIZES: Sizes = {
    f"facevit_{name}": (summary, dict(patch_size=p, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=mlp))
    for name, summary, p, width, depth, heads, mlp in (
        ("tiny_patch9", "vit_t of insightface's code, LVFace-T.", 9, 256, 12, 8, 4.0),
        ("small_patch9", "vit_s of insightface's code, LVFace-S.", 9, 512, 12, 8, 4.0),
        ("base_patch9", "vit_b of insightface's code, LVFace-B.", 9, 512, 24, 8, 4.0),
        ("large_patch9", "vit_l of insightface's code, LVFace-L.", 9, 768, 24, 8, 4.0),
        ("small_patch8", "CVLface's ViT small.", 8, 512, 12, 8, 5.0),
        ("base_patch8", "CVLface's ViT base.", 8, 512, 24, 16, 3.0),
    )
}
register_sizes(FaceViT, SIZES, "patch_embed.proj", "neck.4", {"out_indices": 3, "feature_cls": "getter"})
