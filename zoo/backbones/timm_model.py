"""What timm expects of a model, for the architectures of our own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """(height, width) from either spelling; JSON brings lists."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def face_cfg(**overrides: Any) -> dict[str, Any]:
    """timm's `pretrained_cfg` of a face model: 112×112 RGB in [−1, 1], 512 outputs, no weights, no license."""
    return {
        "input_size": (3, 112, 112),
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "num_classes": 512,
        **overrides,
    }


class FaceArchitecture(nn.Module):
    """An architecture whose classifier is a neck: `forward_features`, `forward_head`, `reset_classifier` as timm's."""

    num_features: int
    head_hidden_size: int
    total_stride = 16

    def __init__(self, num_classes: int, in_chans: int, img_size: int | tuple[int, int], drop_rate: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.img_size = pair(img_size)
        self.drop_rate = drop_rate

    @property
    def map_size(self) -> tuple[int, int]:
        """(height, width) of the final feature map; every stride-2 convolution here rounds up."""
        height, width = self.img_size
        return -(-height // self.total_stride), -(-width // self.total_stride)

    def make_neck(self, dim: int) -> nn.Module:
        """The architecture's own neck, (batch, num_features, h, w) → (batch, dim)."""
        raise NotImplementedError

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_chans, H, W) → (batch, num_features, h, w)."""
        raise NotImplementedError

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(batch, num_features, h, w) → (batch, num_classes), or the pooled features where there are no classes."""
        if pre_logits or self.num_classes == 0:
            return x.mean((2, 3))
        embedding: torch.Tensor = self.neck(x)
        return embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_chans, H, W) → (batch, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The neck."""
        return self.neck

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh neck of `num_classes` outputs; 0 takes it away. The pooling is the neck's own."""
        self.num_classes = num_classes
        self.neck = self.make_neck(num_classes) if num_classes else nn.Identity()
