"""IResNet: the residual network of ArcFace's code, designed for 112×112 crops (total stride 16, 7×7 final map)."""

from typing import Any

import torch
from timm.layers.squeeze_excite import SEModule
from torch import nn

from zoo.backbones.necks import FlatNeck
from zoo.backbones.timm_model import FaceArchitecture, Sizes, register_sizes


class Block(nn.Module):
    """BN–conv–BN–PReLU–conv–BN beside a shortcut (Deng et al. 2019, 3.2.2), with `se` then squeeze and excitation."""

    def __init__(self, channels_in: int, channels: int, stride: int, se: bool = False) -> None:
        super().__init__()
        first = nn.BatchNorm2d(channels_in), nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        second = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(channels)
        excited = [SEModule(channels, rd_channels=channels // 16, bias=False)] if se else []
        self.residual = nn.Sequential(*first, nn.BatchNorm2d(channels), nn.PReLU(channels), *second, *excited)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            strided = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(strided, nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.shortcut(x) + self.residual(x)
        return output


class IResNet(FaceArchitecture):
    """A stride-1 3×3 stem, four stages of `layers` blocks that each halve the map, and the E neck.

    x: float32 (batch, in_chans, H, W) → embedding (batch, num_classes), not normalised.
    """

    widths = (64, 128, 256, 512)

    def __init__(self, layers: tuple[int, int, int, int], se: bool = False, **options: Any) -> None:
        """`options` are those of `FaceArchitecture`."""
        super().__init__(**options)
        stem = nn.Conv2d(self.in_chans, 64, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(64), nn.PReLU(64))
        stages, channels_in = [], 64
        for width, depth in zip(self.widths, layers, strict=True):
            rest = (Block(width, width, 1, se) for _ in range(depth - 1))
            stages.append(nn.Sequential(Block(channels_in, width, 2, se), *rest))
            channels_in = width
        self.stages = nn.Sequential(*stages)
        self.num_features = self.head_hidden_size = channels_in
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (stage + 1), "module": f"stages.{stage}"}
            for stage, width in enumerate(self.widths)
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)  # as in ArcFace's code: each conv is between batch norms
        self.reset_classifier(self.num_classes)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.stages(self.stem(x))  # type: ignore[no-any-return]

    def make_neck(self, dim: int) -> nn.Module:
        return FlatNeck(self.num_features, *self.map_size, dim, self.drop_rate)


LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""The blocks of the four stages of every depth."""
SIZES: Sizes = {
    f"iresnet{depth}{'_se' * se}": (f"IResNet of {depth} layers{told}.", {"layers": LAYERS[depth], "se": se})
    for depth, se, told in (
        (18, False, "; IR-18 of the face papers"),
        (34, False, ""),
        (50, False, " (3×3 blocks, no bottlenecks); IR-50 of the face papers"),
        (100, False, "; IR-100 of the face papers"),
        (200, False, "; IR-200 of the face papers"),
        (50, True, " with squeeze and excitation; IR-SE-50 of the face papers"),
        (100, True, " with squeeze and excitation; IR-SE-101 of the face papers"),
    )
}
register_sizes(IResNet, SIZES, "stem.0", "neck.3", {"flatten_sequential": True, "out_indices": (0, 1, 2, 3)})
