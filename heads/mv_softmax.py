"""MV-Softmax: negatives that come within the margin of the target are re-weighted by a constant."""

import math
from typing import Literal

import torch
from torch import Tensor

from zoo.heads.angles import Fallback, add_angle, add_angle_or_fall_back
from zoo.heads.base import HEADS, MarginHead, Pieces, Scale, check_range


class MVSoftmax(MarginHead):
    """N = cos θ_j, and w·cos θ_j + (w − 1) with w = 1 + t where cos θ_j > B."""

    paper = "Wang et al., Mis-classified vector guided softmax loss for face recognition, AAAI 2020"

    def __init__(self, scale: Scale, t: float) -> None:
        super().__init__(scale)
        self.t = check_range("t", t, 0, 10)

    def pieces(self) -> Pieces:
        return Pieces(linear=1 + self.t, constant=1 + self.t - 1)


@HEADS.register("mv-am")
class MVAM(MVSoftmax):
    """MV-Softmax on CosFace's margin: T = cos θ_y − m where cos θ_y > 0, else cos θ_y; B = cos θ_y − m.

    The official code's easy_margin=False is `fallback="none"`: T = cos θ_y − m everywhere.
    """

    summary = "T = cos θ_y − m where cos θ_y > 0; N = cos θ_j, hard: (1 + t)·cos θ_j + t"

    def __init__(
        self, scale: Scale = 32.0, margin: float = 0.35, t: float = 0.2, fallback: Literal["easy", "none"] = "easy"
    ) -> None:
        super().__init__(scale, t)
        self.margin = check_range("margin", margin, 0, 1)
        self.fallback = fallback

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        shifted = cos_y - self.margin
        return shifted if self.fallback == "none" else torch.where(cos_y > 0, shifted, cos_y)

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y.detach() - self.margin


@HEADS.register("mv-arc")
class MVArc(MVSoftmax):
    """MV-Softmax on ArcFace's margin: T = cos(θ_y + m) where cos θ_y > 0, else cos θ_y; B = cos(θ_y + m).

    The official code's easy_margin=False is `fallback="none"`: T = cos(θ_y + m) everywhere.
    """

    summary = "T = cos(θ_y + m) where cos θ_y > 0; N = cos θ_j, hard: (1 + t)·cos θ_j + t"

    def __init__(self, scale: Scale = 32.0, margin: float = 0.35, t: float = 0.2, fallback: Fallback = "easy") -> None:
        super().__init__(scale, t)
        self.margin = check_range("margin (radians)", margin, 0, math.pi / 2)
        self.fallback = fallback

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle_or_fall_back(cos_y, self.margin, self.fallback)

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle(cos_y.detach(), self.margin)
