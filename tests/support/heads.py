"""Random batches and centres that the tests of the heads and of their class centres share."""

from __future__ import annotations

import torch
from torch import Tensor

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
