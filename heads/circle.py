"""Circle loss in its classification form: every cosine has its own weight."""

from torch import Tensor

from zoo.heads.base import HEADS, MarginHead, Pieces, Scale, check_range


@HEADS.register("circle")
class Circle(MarginHead):
    """T = α_p·(cos θ_y − (1 − m)), N = α_n·(cos θ_j − m) with α_p = [1 + m − cos θ_y]₊, α_n = [cos θ_j + m]₊.

    The paper's loss with O_p = 1 + m, O_n = −m, Δ_p = 1 − m, Δ_n = m; both α carry no gradient. γ is `scale`.
    """

    paper = "Sun et al., Circle loss: A unified perspective of pair similarity optimization, CVPR 2020"
    summary = "T = [1 + m − cos θ_y]₊·(cos θ_y − 1 + m); N = [cos θ_j + m]₊·(cos θ_j − m)"

    def __init__(self, scale: Scale = 256.0, margin: float = 0.25) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return (1 + self.margin - cos_y.detach()).clamp_min(0) * (cos_y - (1 - self.margin))

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        return (cos_j.detach() + self.margin).clamp_min(0) * (cos_j - self.margin)

    def pieces(self) -> Pieces:
        return Pieces(1.0, 0.0, -(self.margin**2), above=-self.margin, below=0.0, slope=(1.0, self.margin))
