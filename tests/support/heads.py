"""Random batches and centres that the tests of the heads and of their class centres share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.heads import (
    MarginHead,
    MarginSoftmaxLoss,
    RowwiseAdamW,
    RowwiseSGD,
)


def data(batch: int = 7, classes: int = 11, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """fp64 embeddings (batch, dim), labels (batch,), centres (classes, dim); few dimensions spread cosines wide."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = 20 * torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch,), generator=generator)
    return embeddings, labels, torch.randn(classes, dim, generator=generator, dtype=torch.float64)


def loss_with(head: MarginHead, centres: Tensor, **options: object) -> MarginSoftmaxLoss:
    loss = MarginSoftmaxLoss(head, *centres.shape, **options).to(centres.dtype)
    loss.weight.data.copy_(centres)
    return loss


OPTIMIZERS = {
    "sgd": lambda params: RowwiseSGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: RowwiseSGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adamw": lambda params: RowwiseAdamW(params, lr=0.1, weight_decay=0.1),
}


def batch(size: int = 5, classes: int = 40, dim: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 20 * torch.randn(size, dim, generator=generator), torch.randint(classes, (size,), generator=generator)


class Learned(MarginHead):
    """A head of which everything is learned: the scale, the margin, and the slope of its negatives."""

    def __init__(self, scale: float = 8.0, margin: float = 0.2) -> None:
        super().__init__(scale)
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.margin = nn.Parameter(torch.tensor(float(margin)))
        self.slope = nn.Parameter(torch.tensor(1.1))

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        return cos_y - self.margin

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        return self.slope * cos_j


class Largest(TorchDispatchMode):
    """Notes in `size` the most elements of a tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else [result]:
            if isinstance(made, Tensor) and func is not torch.ops.aten.detach.default:
                self.size = max(self.size, made.numel())
        return result
