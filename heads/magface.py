"""MagFace: the margin grows with the embedding's norm, and a penalty favours large norms."""

import math

from torch import Tensor

from zoo.errors import InputError
from zoo.heads.angles import Fallback, add_angle_or_fall_back
from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("magface")
class MagFace(MarginHead):
    """T = cos(θ_y + m(a)), m(a) = k·(a − l_a) + l_m, k = (u_m − l_m)/(u_a − l_a), a = ‖x‖ clamped to [l_a, u_a].

    The gradient flows through a. N = cos θ_j; the penalty is λ·mean(a/u_a² + 1/a). `lam` is λ. A value below
    s·k·u_a²·l_a²/(u_a² − l_a²), 22.6 for the defaults, is rejected: the loss then has no optimum inside the range
    of norms (the paper's requirement, which the official program's default of 20 does not meet).
    The official code has `fallback="easy"`.
    """

    uses_norm = True
    paper = "Meng et al., MagFace: A universal representation for face recognition and quality assessment, CVPR 2021"
    summary = "T = cos(θ_y + m(‖x‖)); N = cos θ_j; penalty λ·mean(a/u_a² + 1/a)"

    def __init__(
        self,
        scale: Scale = 64.0,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_margin: float = 0.45,
        u_margin: float = 0.8,
        lam: float = 35.0,
        fallback: Fallback = "paper",
    ) -> None:
        super().__init__(scale)
        if not (0 < l_a < u_a and math.isfinite(u_a)):
            raise InputError(f"expected 0 < l_a < u_a, found l_a = {l_a} and u_a = {u_a}; 10 and 110 are the paper's")
        self.l_a, self.u_a = l_a, u_a
        self.l_margin = check_range("l_margin (radians)", l_margin, 0, math.pi / 2)
        self.u_margin = check_range("u_margin (radians)", u_margin, 0, math.pi / 2)
        if not l_margin <= u_margin:
            raise InputError(f"expected l_margin at most u_margin, found {l_margin} and {u_margin}")
        self.slope = (u_margin - l_margin) / (u_a - l_a)
        self.lam, self.fallback = lam, fallback
        self.bind(0, 0)

    def bind(self, num_classes: int, dim: int) -> None:  # anew, as the scale may come with the number of classes
        least = self.scale * self.slope * (self.u_a * self.l_a) ** 2 / (self.u_a**2 - self.l_a**2)
        if self.lam < least or not math.isfinite(self.lam):
            advice = "below it no norm inside [l_a, u_a] is optimal"
            raise InputError(f"expected lam of at least {least:.4g}, found {self.lam}; {advice}")

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        a = norm.clamp(self.l_a, self.u_a)
        return add_angle_or_fall_back(cos_y, self.slope * (a - self.l_a) + self.l_margin, self.fallback)

    def penalty(self, norm: Tensor) -> Tensor:
        a = norm.clamp(self.l_a, self.u_a)
        return self.lam * (a / self.u_a**2 + 1 / a)
