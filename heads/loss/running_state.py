"""Updating a head's running state once a training forward, with the global batch where that is known."""

import functools
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.heads.base import MarginHead
from zoo.heads.loss.sharded import Ranks


def update_state(head: MarginHead, cos_y: Tensor, norm: Tensor, finite: Tensor, is_global: bool, sync: bool) -> Tensor:
    """Updates `head` with a batch, (batch,) each, unless it is not finite; returns whether it was, a scalar.

    `is_global`: the batch is that of all ranks. Otherwise every rank holds the loss whole: with `sync` the ranks'
    batches are gathered first, by one all_gather of (batch, 2); without, each rank's state is of its own batch, and
    only random margins are those of its place in the global batch.
    """
    alone = is_global or not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
    head.first_sample = 0 if alone or sync else dist.get_rank() * len(cos_y)
    if alone or not sync:
        guarded_update(head, cos_y, norm, finite)
        return finite
    ranks = _everyone(cast(dist.ProcessGroup, dist.group.WORLD))
    ranks.require_equal_batches(len(cos_y))
    whole = ranks.gather(torch.stack([cos_y, norm], dim=1))
    finite = whole.isfinite().all()
    guarded_update(head, whole[:, 0], whole[:, 1], finite)
    head.narrow(slice(ranks.rank * len(cos_y), (ranks.rank + 1) * len(cos_y)))
    return finite


@functools.lru_cache(maxsize=1)
def _everyone(group: dist.ProcessGroup) -> Ranks:
    return Ranks(group)


@torch.no_grad()
def guarded_update(head: MarginHead, cos_y: Tensor, norm: Tensor, finite: Tensor) -> None:
    """`head.update`, undone without a host sync where `finite` is false: a running mean would never lose a NaN."""
    before = [buffer.clone() for buffer in head.buffers()]
    head.update(cos_y.detach(), norm.detach())
    for buffer, old in zip(head.buffers(), before, strict=True):
        buffer.copy_(torch.where(finite, buffer, old))
