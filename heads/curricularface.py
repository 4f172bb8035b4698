"""CurricularFace: ArcFace whose hard negatives gain weight during training."""

import torch
from torch import Tensor

from zoo.heads.angles import Fallback
from zoo.heads.arcface import ArcFace
from zoo.heads.base import HEADS, Pieces, Scale, check_range, moving_average


@HEADS.register("curricularface")
class CurricularFace(ArcFace):
    """T = cos(θ_y + m); N = cos θ_j, and cos θ_j·(t + cos θ_j) where cos θ_j > cos(θ_y + m).

    t is the moving average of the batch's mean cos θ_y, updated in each step before its use.
    """

    paper = "Huang et al., CurricularFace: Adaptive curriculum learning loss for deep face recognition, CVPR 2020"
    summary = "T = cos(θ_y + m); N = cos θ_j, hard: cos θ_j·(t + cos θ_j)"
    t: Tensor

    def __init__(
        self, scale: Scale = 64.0, margin: float = 0.5, alpha: float = 0.01, fallback: Fallback = "paper"
    ) -> None:
        super().__init__(scale, margin, fallback)
        self.alpha = check_range("alpha", alpha, 0, 1)
        self.register_buffer("t", torch.zeros(()))

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        moving_average(self.t, cos_y.mean(), self.alpha)

    def pieces(self) -> Pieces:
        return Pieces(quadratic=1.0, linear=self.t)
