"""Where class centres start, and Partial FC's samples: functions of the seed alone, however classes are split."""

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.heads.counter_rng import random_bits, uniform

Start = Literal["normal", "unit"]  #: Normal numbers of standard deviation 0.01, or these divided by each centre's norm
INITIAL_STD = 0.01
BLOCK = 4096


def initial_centres(classes: range, shape: tuple[int, ...], seed: int, start: Start = "normal") -> Tensor:
    """The centres of `classes`, (classes, *shape), on the CPU; those of a class do not depend on the others."""
    centres = torch.empty(len(classes), *shape, device="cpu")
    for first_of_block in range(classes.start // BLOCK * BLOCK, classes.stop, BLOCK):
        block_seed = int(random_bits(seed, torch.tensor(first_of_block // BLOCK, device="cpu"), 1)) & 0xFFFFFFFF
        generator = torch.Generator("cpu").manual_seed(block_seed)  # which ignores more than 32 bits
        block = torch.empty(BLOCK, *shape, device="cpu").normal_(std=INITIAL_STD, generator=generator)
        first, last = max(first_of_block, classes.start), min(first_of_block + BLOCK, classes.stop)
        centres[first - classes.start : last - classes.start] = block[first - first_of_block : last - first_of_block]
    return F.normalize(centres, dim=-1) if start == "unit" else centres


def sample_classes(labels: Tensor, classes: range, sample_rate: float, seed: int, step: Tensor) -> Tensor:
    """The sampled classes as ascending offsets into `classes`: (sampled,) int64.

    `labels` (batch,) are global. Every one of them that is in `classes` is sampled; negatives fill up to
    ⌈sample_rate·classes⌉. A pure function of its arguments, so that training resumes with `step`, an int64 scalar.
    """
    count = len(classes)
    wanted = math.ceil(sample_rate * count)
    score = uniform(seed, step, count, first=classes.start)
    mine = (labels >= classes.start) & (labels < classes.stop)
    offsets = (labels - classes.start).clamp(0, max(count - 1, 0))
    if count:
        score.scatter_reduce_(0, offsets, torch.where(mine, 2.0, -1.0).to(score.dtype), "amax")
    if len(labels) > wanted:  # the positives alone may be more: the only case that needs a host sync
        wanted = max(wanted, int((score > 1).sum()))
    return score.topk(wanted).indices.sort().values


def take_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """weight[rows] for distinct ascending `rows`; the gradient is sparse and holds only these rows."""
    return cast(Tensor, _TakeRows.apply(weight, rows))


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
    """The index of each label in the ascending `rows`, −1 where it is not among them: (batch,)."""
    if len(rows) == 0:
        return torch.full_like(labels, -1)
    place = torch.searchsorted(rows, labels).clamp_max(len(rows) - 1)
    return torch.where(rows[place] == labels, place, -1)
