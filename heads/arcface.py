"""ArcFace: a margin on the angle."""

from __future__ import annotations

import math

from torch import Tensor

from zoo.heads.angles import Fallback, add_angle, add_angle_or_fall_back
from zoo.heads.base import HEADS, MarginHead, check_range


@HEADS.register("arcface")
class ArcFace(MarginHead):
    """T = cos(θ_y + m) (equation 3), replaced by `fallback` above π − m; N = cos θ_j."""

    paper = "Deng et al., ArcFace: Additive angular margin loss for deep face recognition, CVPR 2019"
    summary = "T = cos(θ_y + m); N = cos θ_j"

    def __init__(self, scale: float = 64.0, margin: float = 0.5, fallback: Fallback = "paper") -> None:
        super().__init__(scale)
        self.margin = check_range("margin (radians)", margin, 0, math.pi / 2)
        self.fallback = fallback

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle_or_fall_back(cos_y, self.margin, self.fallback)

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle(cos_y.detach(), self.margin)
