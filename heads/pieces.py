"""N as data: what a GPU kernel needs of a head to compute N and dN/d cos θ_j of millions of cosines in registers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.heads.angles import where_hard


@dataclass(frozen=True)
class Pieces:
    """N as one quadratic above a threshold and a line through 0 below it, for every cosine c on its own:

        N(c) = quadratic·c² + linear·c + constant    where c > threshold
             = below·c                               elsewhere
        dN/dc = slope[0]·c + slope[1]                where c > threshold, or 2·quadratic·c + linear without `slope`
              = below                                elsewhere

    Where `power` is given, ((c + 1)/2)^power takes the place of c².

    The threshold is `above`, or each sample's boundary B where that is None. The coefficients are numbers or scalar
    tensors on the device of the cosines (t is one), so that reading them needs no host sync.
    """

    quadratic: float = 0.0
    linear: float | Tensor = 1.0
    constant: float = 0.0
    above: float | None = None
    below: float = 1.0
    slope: tuple[float, float] | None = None
    """Where the definition holds a factor of N fixed (Circle's α), so that the gradient is not the derivative."""
    power: float | None = None

    @property
    def unchanged(self) -> bool:
        """Whether N = c everywhere."""
        numbers = not isinstance(self.linear, Tensor) and (self.quadratic, self.linear, self.constant) == (0, 1, 0)
        return numbers and self.slope is None and self.power is None and self.below == 1

    def evaluate(self, cos: Tensor, boundary: Tensor) -> Tensor:
        """N of the cosines, differentiable: (batch, classes), (batch, 1) → (batch, classes)."""
        if self.unchanged:
            return cos
        if self.above is None and self.below == 1 and self.slope is None and self.power is None:
            return where_hard(cos, boundary, self.quadratic, self.linear, self.constant)
        if self.power is None:
            value = cos * (self.quadratic * cos + self.linear) + self.constant
        else:
            value = self.quadratic * ((cos + 1) / 2).clamp_min(0) ** self.power + self.linear * cos + self.constant
        if self.slope is not None:
            value = value.detach() + (self.slope[0] * cos + self.slope[1]).detach() * (cos - cos.detach())
        if self.above == -math.inf:
            return value
        return torch.where(cos > (boundary if self.above is None else self.above), value, self.below * cos)


UNCHANGED = Pieces()  #: N = cos θ_j
