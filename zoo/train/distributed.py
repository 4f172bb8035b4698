"""One run over several processes, as torchrun starts them: the rank of this process, and its part of a step."""

import contextlib
import datetime
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from zoo.errors import InputError

T = TypeVar("T")
Facts = dict[str, Any]
"""What processes, or a run before and after it was stopped, must have in common: a name and a plain value each."""


@dataclass(frozen=True)
class Rank:
    number: int = 0  #: From 0
    world: int = 1
    local: int = 0  #: Its number on this machine, which is that of its GPU where there are enough

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and logs."""
        return self.number == 0


@contextlib.contextmanager
def join(device: torch.device, minutes: float = 30.0) -> Iterator[Rank]:
    """Joins the processes that torchrun started, if it started any, by NCCL, or by gloo on CPUs and shared GPUs.

    InputError, naming the process, where one does not take part in a collective operation for so many `minutes`.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield Rank()
        return
    rank = Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    shared = int(os.environ.get("LOCAL_WORLD_SIZE", rank.world)) > torch.cuda.device_count()  # NCCL refuses that
    if device.type == "cuda":
        torch.cuda.set_device(rank.local % torch.cuda.device_count())
    backend = "nccl" if device.type == "cuda" and not shared else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=minutes))
    try:
        yield rank
    except RuntimeError as trouble:
        if not any(word in str(trouble).lower() for word in ("timed out", "timeout", "connection closed", "reset by")):
            raise
        found = f"found {absent(rank)} stopped or stuck for {minutes:g} minutes, and process {rank.number} waiting"
        wanted = f"all {rank.world} processes to go on together"
        raise InputError(f"expected {wanted}, {found}; see what it printed, then --resume") from None
    finally:
        dist.destroy_process_group()


def absent(rank: Rank) -> str:
    """The processes that do not wait as this one does, in words: each that gives up waiting notes it in the store."""
    waiting = []
    with contextlib.suppress(RuntimeError):  # the store's own process may have ended
        store = dist.distributed_c10d._get_default_store()
        store.set(f"zoo/waits/{rank.number}", "yes")
        time.sleep(SETTLE_SECONDS)
        waiting = [number for number in range(rank.world) if store.check([f"zoo/waits/{number}"])]
    numbers = sorted(set(range(rank.world)) - {rank.number, *waiting})
    return f"process {', '.join(map(str, numbers))}" if numbers else "another process"


SETTLE_SECONDS = 2.0  # the processes that give up waiting do so one after another


def agreed(work: Callable[[], T], rank: Rank) -> T:
    """What `work` gives this process; its InputError, with the process, on all of them where it fails on any."""
    if rank.world == 1:
        return work()
    found: list[T] = []
    trouble = ""
    try:
        found.append(work())
    except InputError as error:
        trouble = str(error)
    for number, told in enumerate(gathered(trouble, rank)):
        if told:
            raise InputError(f"process {number}: {told}")
    return found[0]


def same(facts: Facts, what: str, rank: Rank) -> Facts:
    """The facts of this process; InputError on all of them where those of a process differ from the first one's."""
    everybody = gathered((facts, platform.node()), rank)
    first = everybody[0][0]
    for number, (theirs, place) in enumerate(everybody):
        if differ := [f"{name} {first[name]} and {value}" for name, value in theirs.items() if value != first[name]]:
            found = f"found {differ[0]} on process 0 and on process {number} ({place})"
            raise InputError(f"expected the same {what} on every process, {found}; give all machines the same files")
    return facts


def require_shared(run: Path, rank: Rank) -> None:
    """InputError on every process unless all of them see the run's folder: each writes its part of a checkpoint."""
    if rank.world == 1:
        return
    blind = sorted({place for place in gathered("" if sees_folder(run, rank) else platform.node(), rank) if place})
    if blind:
        found = f"found some on {', '.join(blind)} that do not"
        advice = "start all machines in the same folder of a common file system"
        raise InputError(f"expected every process to see the run's folder {run}, {found}; {advice}")


def sees_folder(folder: Path, rank: Rank) -> bool:
    """Whether this process sees what the first one writes into `folder`, maybe some seconds late."""
    token, mark = folder / ".seen", everywhere(secrets.token_hex(8), rank)
    if rank.first:
        token.write_text(mark)
    dist.barrier()
    seen = False
    for _ in range(4):
        with contextlib.suppress(OSError):
            seen = seen or token.read_text() == mark
        time.sleep(0 if seen else SETTLE_SECONDS / 4)
    dist.barrier()
    token.unlink(missing_ok=True)
    return seen


def gathered(value: T, rank: Rank) -> list[T]:
    """The `value` of every process, in their order."""
    if rank.world == 1:
        return [value]
    values: list[Any] = [None] * rank.world
    dist.all_gather_object(values, value)
    return values


def share(batch_size: int, accumulate: int, world: int) -> int:
    """Images of one forward pass of one process; InputError where the batch does not divide so."""
    images, rest = divmod(batch_size, accumulate * world)
    if rest:
        parts = f"{world} processes × accumulate={accumulate}"
        raise InputError(f"expected a --batch-size divisible by {parts}, found {batch_size}")
    if images < 2:
        found = f"found {images}; raise --batch-size"
        raise InputError(f"expected at least 2 images in a forward pass, as batch norm needs, {found}")
    return images


def replicate(model: nn.Module, rank: Rank, device: torch.device) -> nn.Module:
    """The model whose backward pass averages gradients over all processes; the model itself where there is one.

    Batch statistics without SyncBN are rank 0's at every step, so every process holds the same buffers.
    """
    if rank.world == 1 or isinstance(model, FSDPModule):
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def shard(model: nn.Module, device: torch.device) -> None:
    """Shards the parameters of each block of `model`, and the others, over all processes (FSDP2), in place.

    InputError for a model without blocks, as transformers have them.
    """
    blocks = [module for name, module in model.named_modules() if name.rpartition(".")[0].endswith("blocks")]
    if not blocks:
        raise InputError("expected a transformer for --fsdp, found a model without blocks; leave it out")
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*blocks, model]:
        fully_shard(module, mesh=mesh)


def local_gradients(model: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Keeps gradients to this process for all but the last pass of an accumulated step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else contextlib.nullcontext()


def everywhere(value: Any, rank: Rank) -> Any:
    """Rank 0's `value` on every rank."""
    if rank.world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def reduced(number: int, operation: dist.ReduceOp.RedOpType, rank: Rank, device: torch.device) -> int:
    """All ranks' `number`: their SUM or MAX, as the operation says."""
    if rank.world == 1:
        return number
    together = torch.tensor(number, device=device)
    dist.all_reduce(together, operation)
    return int(together)


def group() -> dist.ProcessGroup | None:
    """All processes of the run, over which the class centres are sharded; None where there is one process."""
    return dist.group.WORLD if dist.is_initialized() else None
