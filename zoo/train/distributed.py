"""One run over several processes, as torchrun starts them: the rank of this process, and its part of a step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zoo.errors import InputError


@dataclass(frozen=True)
class Rank:
    """A process among those of a run."""

    number: int = 0
    """From 0."""
    world: int = 1
    """How many processes there are."""
    local: int = 0
    """Its number on this machine, which is the number of its GPU."""

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and logs."""
        return self.number == 0


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[Rank]:
    """Joins the processes that torchrun started (NCCL for GPUs, gloo for CPUs), if it started any."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield Rank()
        return
    rank = Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(rank.local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield rank
    finally:
        dist.destroy_process_group()


def share(batch_size: int, accumulate: int, world: int) -> int:
    """Images of one forward pass of one process; InputError where the batch does not divide so."""
    images, rest = divmod(batch_size, accumulate * world)
    if rest:
        raise InputError(
            f"expected a --batch-size divisible by {world} processes × accumulate={accumulate}, found {batch_size}"
        )
    if images < 2:
        raise InputError(
            f"expected at least 2 images in a forward pass, as batch norm needs, found {images}; raise --batch-size"
        )
    return images


def replicate(model: nn.Module, rank: Rank, device: torch.device) -> nn.Module:
    """The model whose backward pass averages gradients over all processes; the model itself where there is one.

    Batch statistics without SyncBN are rank 0's at every step, so every process holds the same buffers.
    """
    if rank.world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def local_gradients(model: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Keeps gradients to this process for all but the last pass of an accumulated step."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else contextlib.nullcontext()


def everywhere(value: Any, rank: Rank) -> Any:
    """Rank 0's `value` on every rank."""
    if rank.world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def anywhere(flag: int, rank: Rank, device: torch.device) -> int:
    """The largest of all ranks' `flag`."""
    if rank.world == 1:
        return flag
    largest = torch.tensor(flag, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def total(count: int, rank: Rank, device: torch.device) -> int:
    """The sum of all ranks' `count`."""
    if rank.world == 1:
        return count
    together = torch.tensor(count, device=device)
    dist.all_reduce(together)
    return int(together)


def group() -> dist.ProcessGroup | None:
    """All processes of the run, over which the class centres are sharded; None where there is one process."""
    return dist.group.WORLD if dist.is_initialized() else None
