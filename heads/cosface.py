"""CosFace, also called AM-Softmax: a margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from zoo.heads.base import HEADS, MarginHead, check_range


@HEADS.register("cosface")
class CosFace(MarginHead):
    """T = cos θ_y − m (equation 4), N = cos θ_j."""

    paper = "Wang et al., CosFace: Large margin cosine loss for deep face recognition, CVPR 2018"
    summary = "T = cos θ_y − m; N = cos θ_j"

    def __init__(self, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.margin
