"""SphereFace: a multiplicative margin on the angle."""

import math

from torch import Tensor

from zoo.heads.angles import angle
from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("sphereface")
class SphereFace(MarginHead):
    """T = (−1)^k·cos(m·θ_y) − 2k, k = ⌊m·θ_y/π⌋ (equation 7), N = cos θ_j; m = 1.5 is OpenSphere's, 4 the paper's."""

    paper = "Liu et al., SphereFace: Deep hypersphere embedding for face recognition, CVPR 2017"
    summary = "T = (−1)^k·cos(m·θ_y) − 2k, k = ⌊m·θ_y/π⌋; N = cos θ_j"
    no_margin = 1.0

    def __init__(self, scale: Scale = 30.0, margin: float = 1.5) -> None:
        super().__init__(scale)
        self.margin = check_range("margin (a factor)", margin, 1, 10)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        stretched = self.margin * angle(cos_y)
        k = (stretched.detach() / math.pi).floor()
        return (1 - 2 * (k % 2)) * stretched.cos() - 2 * k
