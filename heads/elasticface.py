"""ElasticFace: every sample draws a new margin in every step."""

import math
from typing import Literal

import torch
from torch import Tensor

from zoo.heads.angles import Fallback, add_angle_or_fall_back
from zoo.heads.base import HEADS, MarginHead, Scale, check_range
from zoo.heads.counter_rng import standard_normal

Plus = Literal["no", "ranked", "official"]
"""How margins are assigned to samples. "no": as drawn.

"ranked": ElasticFace+ as the paper describes it; the sample nearest to its centre gets the smallest margin, the
farthest the largest. "official": ElasticFace+ as the authors' code computes it, which indexes the sorted margins
with the sort's permutation where the ranking needs its inverse.
"""


class ElasticFace(MarginHead):
    """Margins m_i ~ N(m, σ), a function of (seed, step, sample), so that every rank knows those of the global batch.

    In evaluation every margin is m. They do not depend on the batch: a restart that restores `step` has the same ones.
    """

    paper = "Boutros et al., ElasticFace: Elastic margin loss for deep face recognition, CVPRW 2022"
    step: Tensor

    def __init__(self, scale: Scale, margin: float, std: float, plus: Plus, seed: int) -> None:
        super().__init__(scale)
        self.margin = margin
        self.std = check_range("std", std, 0, 0.5)
        self.plus, self.seed = plus, seed
        self.drawn: Tensor | None = None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        drawn = standard_normal(self.seed, self.step, len(cos_y), self.first_sample).to(cos_y.dtype)
        margins = self.margin + self.std * drawn
        if self.plus != "no":
            nearest_first = cos_y.argsort(descending=True, stable=True)
            margins = margins.sort().values[nearest_first if self.plus == "official" else nearest_first.argsort()]
        self.drawn = margins
        self.step.add_(1)

    def narrow(self, part: slice) -> None:
        assert self.drawn is not None, "update() comes first"
        self.drawn = self.drawn[part]

    def margins(self, cos_y: Tensor) -> Tensor:
        """The margin of each sample: (batch,) → (batch,)."""
        if not self.training or self.drawn is None:
            return torch.full_like(cos_y, self.margin)
        assert self.drawn.shape == cos_y.shape, "update() saw another batch than target()"
        return self.drawn


@HEADS.register("elasticface-arc")
class ElasticFaceArc(ElasticFace):
    """T = cos(θ_y + m_i), N = cos θ_j; `std` is 0.05, with `plus` 0.0175. The official code has `fallback="none"`."""

    summary = "T = cos(θ_y + m_i), m_i ~ N(m, σ); N = cos θ_j"

    def __init__(
        self,
        scale: Scale = 64.0,
        margin: float = 0.5,
        std: float | None = None,
        plus: Plus = "no",
        seed: int = 0,
        fallback: Fallback = "paper",
    ) -> None:
        check_range("margin (radians)", margin, 0, math.pi / 2)
        super().__init__(scale, margin, (0.05 if plus == "no" else 0.0175) if std is None else std, plus, seed)
        self.fallback = fallback

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return add_angle_or_fall_back(cos_y, self.margins(cos_y), self.fallback)


@HEADS.register("elasticface-cos")
class ElasticFaceCos(ElasticFace):
    """T = cos θ_y − m_i, N = cos θ_j. `std` defaults to 0.05, with `plus` to 0.02."""

    summary = "T = cos θ_y − m_i, m_i ~ N(m, σ); N = cos θ_j"

    def __init__(
        self, scale: Scale = 64.0, margin: float = 0.35, std: float | None = None, plus: Plus = "no", seed: int = 0
    ) -> None:
        check_range("margin", margin, 0, 1)
        super().__init__(scale, margin, (0.05 if plus == "no" else 0.02) if std is None else std, plus, seed)

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.margins(cos_y)
