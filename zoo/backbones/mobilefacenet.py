"""MobileFaceNet, a network of about a million parameters designed for 112×112 crops.

Chen et al. 2018, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices".
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from zoo.backbones.necks import GdcNeck
from zoo.backbones.timm_model import FaceArchitecture, face_cfg


def conv(
    channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution, BN and, unless linear, PReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers, *([nn.PReLU(channels)] if act else []))


class Bottleneck(nn.Module):
    """Inverted residual: 1×1 expansion, 3×3 depthwise, linear 1×1; a shortcut where the shapes agree."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.residual = nn.Sequential(
            conv(channels_in, hidden, 1),
            conv(hidden, hidden, 3, stride, groups=hidden),
            conv(hidden, channels, 1, act=False),
        )
        self.has_shortcut = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.residual(x)
        return x + residual if self.has_shortcut else residual


class MobileFaceNet(FaceArchitecture):
    """Table 1 of the paper, with the global depthwise convolution (GDC) as its neck.

    x: float32 (batch, in_chans, H, W) → embedding (batch, num_classes), not normalised.
    """

    rows = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
    """Expansion t, channels c, repetitions n, stride of the first s."""

    def __init__(
        self,
        num_classes: int = 512,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 112,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes, in_chans, img_size, drop_rate)
        self.stem = nn.Sequential(conv(in_chans, 64, 3, 2), conv(64, 64, 3, groups=64))
        blocks, channels_in = [], 64
        for expansion, channels, repeats, stride in self.rows:
            for i in range(repeats):
                blocks.append(Bottleneck(channels_in, channels, expansion, stride if i == 0 else 1))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = conv(channels_in, 512, 1)
        self.num_features = self.head_hidden_size = 512
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.reset_classifier(num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_chans, H, W) → (batch, 512, H/16, W/16)."""
        features: torch.Tensor = self.conv_head(self.blocks(self.stem(x)))
        return features

    def make_neck(self, dim: int) -> nn.Module:
        return GdcNeck(self.num_features, *self.map_size, dim, self.drop_rate)


default_cfgs = generate_default_cfgs({"mobilefacenet.untrained": face_cfg(first_conv="stem.0.0", classifier="neck.4")})


@register_model
def mobilefacenet(pretrained: bool = False, **options: Any) -> MobileFaceNet:
    """MobileFaceNet of the paper's Table 1."""
    model: MobileFaceNet = build_model_with_cfg(MobileFaceNet, "mobilefacenet", pretrained, **options)
    return model
