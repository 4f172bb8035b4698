"""ArcFace: a margin on the angle."""

import math

from torch import Tensor

from zoo.heads.angles import Fallback, add_angle, add_angle_or_fall_back
from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("arcface")
class ArcFace(MarginHead):
    """T = cos(θ_y + m) (equation 3), replaced by `fallback` above π − m; N = cos θ_j.

    With `count_power` λ above 0, m_y = m·(n_min/n_y)^λ for a class of n_y training images, as LDAM has it (Cao et al.,
    NeurIPS 2019, λ = 0.25).
    """

    paper = "Deng et al., ArcFace: Additive angular margin loss for deep face recognition, CVPR 2019"
    summary = "T = cos(θ_y + m); N = cos θ_j"

    def __init__(
        self, scale: Scale = 64.0, margin: float = 0.5, fallback: Fallback = "paper", count_power: float = 0.0
    ) -> None:
        super().__init__(scale)
        self.margin = check_range("margin (radians)", margin, 0, math.pi / 2)
        self.fallback = fallback
        self.count_power = check_range("count_power", count_power, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle_or_fall_back(cos_y, self.class_margin(self.margin, self.count_power), self.fallback)

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle(cos_y.detach(), self.class_margin(self.margin, self.count_power))
