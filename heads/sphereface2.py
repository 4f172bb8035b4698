"""SphereFace2: binary classification of every class, with a similarity that spreads the cosines."""

import math

import torch
from torch import Tensor, nn

from zoo.heads.base import HEADS, MarginHead, Pieces, Scale, check_range


@HEADS.register("sphereface2")
class SphereFace2(MarginHead):
    """T = g(cos θ_y) − m, N = g(cos θ_j) + m with g(c) = 2·((c + 1)/2)^t − 1, the paper's SphereFace2-C.

    L = (w/r)·( λ·softplus(b − r·T) + (1 − λ)·Σ_j softplus(r·N_j − b) ); r is `scale`, λ is `balance`, w is `weight`. b
    is learned and has the sign of UniFace's, opposite to the paper's; it starts where the paper has it, at the least
    loss of embeddings and centres at right angles. The official code gives g the gradient of the plain cosine.
    """

    paper = "Wen et al., SphereFace2: Binary classification is all you need for deep face recognition, ICLR 2022"
    summary = "T = g(cos θ_y) − m; N = g(cos θ_j) + m; λ·softplus(b − r·T) + (1 − λ)·Σ softplus(r·N − b), b learned"
    form = "binary"
    bias: nn.Parameter

    def __init__(
        self, scale: Scale = 40.0, margin: float = 0.4, balance: float = 0.7, t: float = 3.0, weight: float = 50.0
    ) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)
        self.balance = check_range("balance", balance, 1e-3, 1 - 1e-3)
        self.t = check_range("t (an exponent)", t, 1, 20)
        self.weight = check_range("weight", weight, 1e-6, 1e6)
        self.bias = nn.Parameter(torch.zeros(()))

    def bind(self, num_classes: int, dim: int) -> None:
        self.positive_weight = self.weight / self.scale * self.balance
        self.negative_weight = self.weight / self.scale * (1 - self.balance)
        if self.bound is None:
            nn.init.constant_(self.bias, self._first_bias(num_classes))

    def _first_bias(self, num_classes: int) -> float:
        """b where ∂L/∂b = 0 with every cosine 0: z·σ(b − r·T) = σ(r·N − b), z = λ / ((1 − λ)·(classes − 1))."""
        z = self.balance / ((1 - self.balance) * (num_classes - 1))
        target, negative = (self.scale * (2 * 0.5**self.t - 1 + shift) for shift in (-self.margin, self.margin))
        root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(target - negative))
        return float(negative + math.log(1 - z + root) - math.log(2 * z))

    def spread(self, cos: Tensor) -> Tensor:
        """g(cos), of any shape."""
        return 2 * ((cos + 1) / 2).clamp_min(0) ** self.t - 1

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return self.spread(cos_y) - self.margin

    def pieces(self) -> Pieces:
        return Pieces(2.0, 0.0, self.margin - 1, above=-math.inf, power=self.t)
