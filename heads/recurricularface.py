"""ReCurricularFace, of which no public code exists: CurricularFace centred on the ideal class boundary."""

import math
from typing import Literal

from zoo.heads.angles import Fallback
from zoo.heads.base import HEADS, Pieces, Scale, check_range
from zoo.heads.curricularface import CurricularFace
from zoo.heads.geometry import nearest_centre_angle

PAPER_CONSTANTS = (1.1, 0.4)  #: (a, b) of section 4.2 of the paper


def recurricular_constants(separation: float, margin: float) -> tuple[float, float]:
    """(a, b) for centres at an angle of `separation`, E, to their nearest neighbour; both arguments in radians.

    At the ideal boundary a sample has θ_y = (E − m)/2 and θ_j = (E + m)/2. a is equation (3); b makes the
    modulation I = a·cos θ_j + b·t equal to 1 there at t = 1.

    >>> a, b = recurricular_constants(math.radians(80.2226), 0.5)
    >>> f"{a:.3f} {b:.3f}"
    '1.111 0.354'
    """
    a = 1 / math.cos((separation - margin) / 2)
    return a, 1 - a * math.cos((separation + margin) / 2)


def printed_b(separation: float, margin: float) -> float:
    """b as equations (5) and (6) of the paper print it (there called α), which the paper's own 0.4 is not; radians.

    >>> f"{printed_b(math.radians(80.2226), 0.5):.3f}"
    '0.522'
    """
    return (1 - (separation - margin) / 2) * (separation + margin) / 2


@HEADS.register("recurricularface")
class ReCurricularFace(CurricularFace):
    """T = cos(θ_y + m); N = cos θ_j, and cos θ_j·I where cos θ_j > cos(θ_y + m), I = a·cos θ_j + b·t.

    t ← (1 − α)·t + α·mean(cos θ_y), updated in each step before its use and clamped to [0, 1] where it is used.
    `constants`: "paper" takes a = 1.1, b = 0.4; "derived" computes them from the number of classes and the
    dimension; a number for `a` or `b` replaces that one, so that `constants="derived", b=printed_b(…)` is equation (6).
    `modulate`: "hard" applies I to hard negatives, as CurricularFace does; "all" applies it to every negative. The
    paper does not state which.

    A worked example with s = 2, m = 0.5, a = 1.1, b = 0.4. A sample has cos θ_y = 0.8 to its own centre and
    cosines 0.6 and 0.1 to two others; t is 0 and α is 0.01.

        t      = 0.99·0 + 0.01·0.8                            = 0.008
        T      = 0.8·cos 0.5 − 0.6·sin 0.5 = 0.70207 − 0.28766 = 0.41441
        N(0.6) : 0.6 > 0.41441 is hard: 0.6·(1.1·0.6 + 0.4·0.008) = 0.39792
        N(0.1) : easy                                          = 0.1
        L      = −log e^0.82882 / (e^0.82882 + e^0.79584 + e^0.2) = 0.91660

    >>> import torch
    >>> head = ReCurricularFace(scale=2.0)
    >>> cos_y, norm, cos_j = torch.tensor([0.8]), torch.tensor([1.0]), torch.tensor([[0.6, 0.1]])
    >>> head.update(cos_y, norm)
    >>> T = head.target(cos_y, norm)
    >>> N = head.negative(cos_j, head.boundary(cos_y, norm)[:, None])
    >>> f"t {head.t:.3f}, T {T.item():.5f}, N {N[0, 0]:.5f} {N[0, 1]:.5f}"
    't 0.008, T 0.41441, N 0.39792 0.10000'
    >>> loss = torch.nn.functional.softplus(torch.logsumexp(2 * N, dim=1) - 2 * T)
    >>> f"{loss.item():.5f}"
    '0.91660'
    """

    paper = "Sang & Yang, ReCurricularFace, Advances in Computer, Signals and Systems 8(2), 2024"
    summary = "T = cos(θ_y + m); N = cos θ_j, hard: cos θ_j·(a·cos θ_j + b·t)"

    def __init__(
        self,
        scale: Scale = 64.0,
        margin: float = 0.5,
        alpha: float = 0.01,
        constants: Literal["paper", "derived"] = "paper",
        modulate: Literal["hard", "all"] = "hard",
        fallback: Fallback = "paper",
        a: float | None = None,
        b: float | None = None,
    ) -> None:
        super().__init__(scale, margin, alpha, fallback)
        self.constants, self.modulate = constants, modulate
        self.given = [one if one is None else check_range(name, one, 0, 10) for name, one in (("a", a), ("b", b))]
        self.a, self.b = self.chosen(PAPER_CONSTANTS)

    def bind(self, num_classes: int, dim: int) -> None:
        if self.constants == "derived":
            self.a, self.b = self.chosen(recurricular_constants(nearest_centre_angle(num_classes, dim), self.margin))

    def chosen(self, constants: tuple[float, float]) -> tuple[float, float]:
        """(a, b) with the options `a` and `b` in the place of their own, where they are given."""
        a, b = (named if given is None else given for named, given in zip(constants, self.given, strict=True))
        return a, b

    def pieces(self) -> Pieces:
        everywhere = -math.inf if self.modulate == "all" else None
        return Pieces(quadratic=self.a, linear=self.b * self.t.clamp(0, 1), above=everywhere)
