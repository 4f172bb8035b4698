"""MV-Softmax: negatives that come within the margin of the target are re-weighted by a constant."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.heads.angles import add_angle, where_hard
from zoo.heads.base import HEADS, MarginHead, check_range


class MVSoftmax(MarginHead):
    """N = cos θ_j, and w·cos θ_j + (w − 1) with w = 1 + t where cos θ_j > B."""

    paper = "Wang et al., Mis-classified vector guided softmax loss for face recognition, AAAI 2020"

    def __init__(self, scale: float, t: float) -> None:
        super().__init__(scale)
        self.weight = 1 + check_range("t", t, 0, 10)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return torch.where(cos_y > 0, self.shifted(cos_y), cos_y)

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return self.shifted(cos_y.detach())

    def shifted(self, cos_y: Tensor) -> Tensor:
        """The target cosine with the margin, whatever its sign: (batch,) → (batch,)."""
        raise NotImplementedError

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        return where_hard(cos_j, boundary, linear=self.weight, constant=self.weight - 1)


@HEADS.register("mv-am")
class MVAM(MVSoftmax):
    """MV-Softmax on CosFace's margin: T = cos θ_y − m where cos θ_y > 0, else cos θ_y; B = cos θ_y − m."""

    summary = "T = cos θ_y − m where cos θ_y > 0; N = cos θ_j, hard: (1 + t)·cos θ_j + t"

    def __init__(self, scale: float = 32.0, margin: float = 0.35, t: float = 0.2) -> None:
        super().__init__(scale, t)
        self.margin = check_range("margin", margin, 0, 1)

    def shifted(self, cos_y: Tensor) -> Tensor:
        return cos_y - self.margin


@HEADS.register("mv-arc")
class MVArc(MVSoftmax):
    """MV-Softmax on ArcFace's margin: T = cos(θ_y + m) where cos θ_y > 0, else cos θ_y; B = cos(θ_y + m)."""

    summary = "T = cos(θ_y + m) where cos θ_y > 0; N = cos θ_j, hard: (1 + t)·cos θ_j + t"

    def __init__(self, scale: float = 32.0, margin: float = 0.35, t: float = 0.2) -> None:
        super().__init__(scale, t)
        self.margin = check_range("margin (radians)", margin, 0, math.pi / 2)

    def shifted(self, cos_y: Tensor) -> Tensor:
        return add_angle(cos_y, self.margin)
