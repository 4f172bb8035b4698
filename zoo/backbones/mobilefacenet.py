"""MobileFaceNet, a network of about a million parameters designed for 112×112 crops.

Chen et al. 2018, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices".
"""

from typing import Any

import torch
from torch import nn

from zoo.backbones.necks import GdcNeck
from zoo.backbones.timm_model import FaceArchitecture, Sizes, register_sizes


def conv(before: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution of `before` channels, BN and, unless linear, PReLU."""
    layer = nn.Conv2d(before, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels), *([nn.PReLU(channels)] if act else []))


class Bottleneck(nn.Module):
    """Inverted residual: 1×1 expansion, 3×3 depthwise, linear 1×1; a shortcut where the shapes agree."""

    def __init__(self, channels_in: int, channels: int, expansion: float, stride: int) -> None:
        super().__init__()
        hidden = int(channels_in * expansion)
        layers = conv(channels_in, hidden, 1), conv(hidden, hidden, 3, stride, groups=hidden)
        self.residual = nn.Sequential(*layers, conv(hidden, channels, 1, act=False))
        self.has_shortcut = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = self.residual(x)
        return x + residual if self.has_shortcut else residual


Rows = tuple[tuple[float, int, int, int], ...]  #: Expansion t, channels c, repetitions n, stride of the first s
TABLE_1: Rows = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
MBF: Rows = ((1, 128, 1, 2), (1, 128, 4, 1), (2, 256, 1, 2), (1, 256, 6, 1), (2, 256, 1, 2), (1, 256, 2, 1))
"""Those of insightface's code: twice the channels, half the expansion, and no shortcut where a stage begins."""
MBF_LARGE: Rows = ((0.5, 256, 2, 1), (0.5, 256, 1, 2), (0.5, 256, 8, 1), (1, 512, 1, 2), (0.5, 512, 12, 1))
MBF_LARGE += ((1, 512, 1, 2), (0.5, 512, 4, 1))


class MobileFaceNet(FaceArchitecture):
    """The paper's network, or another of its shape, with the global depthwise convolution (GDC) as its neck.

    `stem` is the width of the first convolution, and `stem_groups` the groups of the second one; 0 leaves it out.
    x: float32 (batch, in_chans, H, W) → embedding (batch, num_classes), not normalised.
    """

    def __init__(self, rows: Rows = TABLE_1, stem: int = 64, stem_groups: int = 64, **options: Any) -> None:
        """`options` are those of `FaceArchitecture`."""
        super().__init__(**options)
        second = [conv(stem, stem, 3, groups=stem_groups)] if stem_groups else []
        self.stem = nn.Sequential(conv(self.in_chans, stem, 3, 2), *second)
        blocks, channels_in, reduction = [], stem, 2
        self.feature_info: list[dict[str, Any]] = []  #: For timm's features_only: the last block of every map size
        for expansion, channels, repeats, stride in rows:
            for i in range(repeats):
                blocks.append(Bottleneck(channels_in, channels, expansion, stride if i == 0 else 1))
                channels_in = channels
            reduction *= stride
            last = {"num_chs": channels, "reduction": reduction, "module": f"blocks.{len(blocks) - 1}"}
            self.feature_info = [*(info for info in self.feature_info if info["reduction"] != reduction), last]
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = conv(channels_in, 512, 1)
        self.num_features = self.head_hidden_size = 512
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.reset_classifier(self.num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)", "head": r"^conv_head"}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_head(self.blocks(self.stem(x)))  # type: ignore[no-any-return]

    def make_neck(self, dim: int) -> nn.Module:
        return GdcNeck(self.num_features, *self.map_size, dim, self.drop_rate)


FEATURES = {"flatten_sequential": True, "out_indices": (0, 1, 2)}
SIZES: Sizes = {
    "mobilefacenet": ("MobileFaceNet of the paper's Table 1.", {}),
    "mbf": ("The wider MobileFaceNet of insightface's code, which calls it so.", {"rows": MBF, "stem": 128}),
    "mbf_large": (
        "The largest MobileFaceNet of insightface's code.",
        {"rows": MBF_LARGE, "stem": 256, "stem_groups": 0, "feature_cfg": {**FEATURES, "out_indices": (0, 1, 2, 3)}},
    ),
}
register_sizes(MobileFaceNet, SIZES, "stem.0.0", "neck.4", FEATURES)
