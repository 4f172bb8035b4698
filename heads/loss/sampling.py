"""Partial FC: in each step only some of the negative classes take part, drawn anew; the positives always do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zoo.heads.counter_rng import uniform


def sample_classes(labels: Tensor, classes: range, sample_rate: float, seed: int, step: Tensor) -> Tensor:
    """The sampled ones of `classes`, as offsets into them, ascending: (sampled,) int64.

    Every class in `labels` (batch,), which are global, is among them; negatives fill up to
    ⌈sample_rate·classes⌉. A pure function of its arguments: it resumes with `step`, an int64 scalar.
    """
    count = len(classes)
    wanted = math.ceil(sample_rate * count)
    score = uniform(seed, step, count, first=classes.start)
    mine = (labels >= classes.start) & (labels < classes.stop)
    offsets = (labels - classes.start).clamp(0, max(count - 1, 0))
    if count:
        score.scatter_reduce_(0, offsets, torch.where(mine, 2.0, -1.0).to(score.dtype), "amax")
    if len(labels) > wanted:  # the positives alone may be more: the only case in which the host must know
        wanted = max(wanted, int((score > 1).sum()))
    return score.topk(wanted).indices.sort().values


def take_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """weight[rows] for distinct ascending `rows`; the gradient is sparse: it holds these rows alone."""
    result: Tensor = _TakeRows.apply(weight, rows)
    return result


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(rows[None], grads[0], ctx.shape, is_coalesced=True, check_invariants=False), None


def columns_of(labels: Tensor, rows: Tensor) -> Tensor:
    """Where each label stands among the ascending `rows`, −1 where it does not: (batch,)."""
    if len(rows) == 0:
        return torch.full_like(labels, -1)
    place = torch.searchsorted(rows, labels).clamp_max(len(rows) - 1)
    return torch.where(rows[place] == labels, place, -1)
