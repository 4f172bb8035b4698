"""UniFace: one learned threshold for every class, by a binary classification of each."""

import math

import torch
from torch import Tensor, nn

from zoo.heads.base import HEADS, MarginHead, Scale, check_range


@HEADS.register("uniface")
class UniFace(MarginHead):
    """T = cos θ_y − m, N = cos θ_j; L = softplus(b − s·T) + λ·Σ_j softplus(s·N_j − b).

    The unified cross-entropy with margin, and with the balance λ of its negatives. b is learned: all classes share it,
    so that b/s is a cosine which separates pairs of every class. It starts at ln(10·r·classes), where r is `rate`, the
    share of the negatives that the loss samples. The official code also clamps the logits to ±s, the paper does not.
    """

    paper = "Zhou et al., UniFace: Unified cross-entropy loss for deep face recognition, ICCV 2023"
    summary = "T = cos θ_y − m; N = cos θ_j; softplus(b − s·T) + λ·Σ softplus(s·N − b), b learned"
    form = "binary"
    bias: nn.Parameter

    def __init__(self, scale: Scale = 64.0, margin: float = 0.4, balance: float = 1.0, rate: float = 1.0) -> None:
        super().__init__(scale)
        self.margin = check_range("margin", margin, 0, 1)
        self.balance = check_range("balance", balance, 0, 1000)
        self.rate = check_range("rate", rate, 1e-6, 1)
        self.negative_weight = self.balance
        self.bias = nn.Parameter(torch.zeros(()))

    def bind(self, num_classes: int, dim: int) -> None:
        if self.bound is None:
            nn.init.constant_(self.bias, math.log(10 * self.rate * num_classes))

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.margin
