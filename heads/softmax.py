"""NormFace: softmax over scaled cosines, the baseline without a margin."""

from zoo.heads.base import HEADS, MarginHead, Scale


@HEADS.register("softmax")
class Softmax(MarginHead):
    """T = cos θ_y, N = cos θ_j."""

    paper = "Wang et al., NormFace: L2 hypersphere embedding for face verification, ACM MM 2017"
    summary = "T = cos θ_y; N = cos θ_j"

    def __init__(self, scale: Scale = 64.0) -> None:
        super().__init__(scale)
