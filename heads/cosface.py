"""CosFace, also called AM-Softmax: a margin on the cosine."""

from torch import Tensor

from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("cosface")
class CosFace(MarginHead):
    """T = cos θ_y − m (equation 4), N = cos θ_j.

    With `count_power` λ above 0, m_y = m·(n_min/n_y)^λ for a class of n_y training images, as LDAM has it (Cao et al.,
    NeurIPS 2019, λ = 0.25).
    """

    paper = "Wang et al., CosFace: Large margin cosine loss for deep face recognition, CVPR 2018"
    summary = "T = cos θ_y − m; N = cos θ_j"

    def __init__(self, scale: Scale = 64.0, margin: float = 0.35, count_power: float = 0.0) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)
        self.count_power = check_range("count_power", count_power, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.class_margin(self.margin, self.count_power)
