"""The combined margin of the ArcFace paper: a factor and an offset on the angle, and a margin on the cosine."""

import math

from torch import Tensor

from zoo.heads.angles import angle
from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("combined")
class Combined(MarginHead):
    """T = cos(m1·θ_y + m2) − m3 (equation 4 of the ArcFace paper), N = cos θ_j.

    All three margins apply together; insightface's torch code ignores m1 and m2 where m3 > 0.
    """

    paper = "Deng et al., ArcFace: Additive angular margin loss for deep face recognition, CVPR 2019"
    summary = "T = cos(m1·θ_y + m2) − m3; N = cos θ_j"

    def __init__(self, scale: Scale = 64.0, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2) -> None:
        super().__init__(scale)
        self.m1 = check_range("m1 (a factor)", m1, 0.1, 4)
        self.m2 = check_range("m2 (radians)", m2, 0, math.pi / 2)
        self.m3 = check_range("m3", m3, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return (self.m1 * angle(cos_y) + self.m2).cos() - self.m3
