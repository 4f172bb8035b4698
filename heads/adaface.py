"""AdaFace: the margin depends on the embedding's norm, a proxy for image quality."""

import math

import torch
from torch import Tensor

from zoo.heads.angles import add_angle
from zoo.heads.base import HEADS, MarginHead, Scale, check_range, moving_average

MIN_NORM, MAX_NORM = 0.001, 100.0  #: Norms are clipped to this range


@HEADS.register("adaface")
class AdaFace(MarginHead):
    """T = cos(clip(θ_y + g_ang, ε, π − ε)) − g_add with g_ang = −m·ẑ, g_add = m·ẑ + m.

    ẑ = clip(h·(‖x‖ − μ)/(σ + ε), −1, 1) has no gradient. μ and σ are moving averages of the batch's mean and
    unbiased standard deviation of ‖x‖, updated before their use; a batch of one updates only μ. N = cos θ_j: the
    official code also clamps it to ±0.999, the paper does not. A negative h gives low norms the larger margin.
    """

    paper = "Kim et al., AdaFace: Quality adaptive margin for face recognition, CVPR 2022"
    summary = "T = cos(θ_y − m·ẑ) − (m + m·ẑ), ẑ = the norm in standard deviations, times h; N = cos θ_j"
    uses_norm = True
    norm_mean: Tensor
    norm_std: Tensor

    def __init__(
        self, scale: Scale = 64.0, margin: float = 0.4, h: float = 0.333, t_alpha: float = 0.01, eps: float = 1e-3
    ) -> None:
        super().__init__(scale)
        self.margin = check_range("margin (radians)", margin, 0, math.pi / 2)
        self.h = check_range("h", h, -10, 10)
        self.t_alpha = check_range("t_alpha", t_alpha, 0, 1)
        self.eps = check_range("eps", eps, 1e-6, 0.1)
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        clipped = norm.clamp(MIN_NORM, MAX_NORM)
        moving_average(self.norm_mean, clipped.mean(), self.t_alpha)
        if len(norm) > 1:
            moving_average(self.norm_std, clipped.std(), self.t_alpha)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        clipped = norm.detach().clamp(MIN_NORM, MAX_NORM)
        z = (self.h * (clipped - self.norm_mean) / (self.norm_std + self.eps)).clamp(-1, 1)
        g_angle, g_add = -self.margin * z, self.margin + self.margin * z
        # θ + g < ε and θ + g > π − ε, decided by the cosines of θ and of the limits: no acos, no steep gradient
        too_small = cos_y > (self.eps - g_angle).clamp_min(0).cos()
        too_large = cos_y < (math.pi - self.eps - g_angle).clamp_max(math.pi).cos()
        shifted = add_angle(cos_y, g_angle)
        shifted = torch.where(too_small, math.cos(self.eps), shifted)
        return torch.where(too_large, -math.cos(self.eps), shifted) - g_add
