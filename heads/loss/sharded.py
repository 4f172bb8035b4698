"""Class centres split over the processes of a torch.distributed group: which rank owns which, and the collectives.

Every process computes the same loss of the global batch from its own classes. Quantities that are equal on all
processes (norms, target cosines, the loss) have the whole gradient on each; that of the unit vectors is summed once.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from zoo.errors import InputError
from zoo.heads.base import MarginHead

_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.14


def shard_range(num_classes: int, rank: int, ranks: int) -> range:
    """The classes that `rank` owns: ⌈classes/ranks⌉ each, as DTensor shards, so 5 over 4 ranks are 2, 2, 1 and 0.

    >>> [len(shard_range(5, rank, 4)) for rank in range(4)]
    [2, 2, 1, 0]
    """
    size = math.ceil(num_classes / ranks)
    return range(min(rank * size, num_classes), min((rank + 1) * size, num_classes))


class Ranks:
    """A process group as the class centres use it. All processes must have batches of the same size.

    A forward has these collectives: all_gather of the batch's size, between the hosts; all_gather of (batch, dim + 1)
    and of the labels; all_reduce of the target cosines, of the maxima and of the sums, (ranks·batch,) each. A backward
    has one all_reduce of (ranks·batch, dim), and one of each parameter that the head learns.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            found = "found none; start with torchrun"
            raise InputError(f"expected an initialised process group for sharded centres, {found}")
        self.group, self.rank = group, dist.get_rank(group)
        self.count = dist.get_world_size(group)
        members = dist.get_process_group_ranks(group)
        on_cpu = "cpu:gloo" in str(dist.get_backend_config(group))
        hosts = group if on_cpu else dist.new_group(members, backend="gloo", use_local_synchronization=True)
        self.hosts = cast(dist.ProcessGroup, hosts)  # it is none only where this process is no member
        """The same processes, by a backend that needs no GPU: what the hosts compare costs no wait for one."""

    def require_equal_batches(self, batch: int) -> None:
        """InputError on every rank, before any other collective, where the ranks' batches differ in size."""
        sizes = torch.empty(self.count, dtype=torch.int64, device="cpu")
        _all_gather(sizes, torch.tensor([batch], device="cpu"), group=self.hosts)
        if len(set(sizes.tolist())) > 1:
            told = ", ".join(f"rank {rank}: {size}" for rank, size in enumerate(sizes.tolist()))
            advice = "drop the last, smaller batch (drop_last=True)"
            raise InputError(f"expected batches of the same size on every rank, found {told}; {advice}")

    def require_shards_of_their_own(self, weight: Tensor) -> None:
        """InputError where two ranks hold the same centres: a wrapper has given every rank those of rank 0."""
        rows = weight.detach().to(torch.float64)
        mine = torch.stack([rows.sum(), rows.abs().sum()])
        prints = [tuple(pair) for pair in self.gather(mine[None]).tolist() if pair[1] > 0]
        if len(set(prints)) < len(prints):
            why = "the same ones on several: DistributedDataParallel has copied rank 0's over them"
            call = "call zoo.heads.keep_shards_local(model) on the module before it is wrapped"
            where = "(in Lightning at the end of __init__, with Accelerate before prepare)"
            raise InputError(f"expected different class centres on each rank, found {why}; {call} {where}")

    def gather(self, value: Tensor) -> Tensor:
        """The values of all samples in rank order, without gradient: (batch, …) → (ranks·batch, …)."""
        value = value.detach()
        out = value.new_empty((self.count * len(value), *value.shape[1:]))
        _all_gather(out, value.contiguous(), group=self.group)
        return out

    def gather_batch(
        self, unit: Tensor, norm: Tensor, labels: Tensor, parameters: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The global batch in rank order: (ranks·batch, dim), (ranks·batch,), (ranks·batch,); and `parameters`.

        What a rank computes from its own classes must use these parameters: their gradients are summed over the ranks.
        """
        all_unit, all_norm, *shared = _GatherBatch.apply(self, unit, norm, *parameters)
        return all_unit, all_norm, self.gather(labels), shared

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the ranks of the parts of a quantity; the gradient of each part is that of the sum."""
        return cast(Tensor, _Sum.apply(value, self))

    def log_sum_exp(self, log: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """log Σ e^log over the ranks, and the sum of `counts`, which has no gradient: (batch,), (k,)."""
        return cast(tuple[Tensor, Tensor], _LogSumExp.apply(log, counts, self))

    def agree(self, value: int) -> int:
        shared = torch.tensor(value, dtype=torch.int64, device="cpu")
        dist.broadcast(shared, group=self.hosts, group_src=0)
        return int(shared)

    def own(self, gathered: Tensor) -> Tensor:
        """This rank's part of a gathered tensor."""
        return gathered.chunk(self.count)[self.rank]

    def distributed(self, local: Tensor, rows: int) -> DTensor:
        """`local`, this rank's part of a tensor with `rows` rows, as a DTensor that a checkpoint can re-shard."""
        shape = torch.Size((rows, *local.shape[1:]))
        mesh = DeviceMesh.from_group(self.group, local.device.type)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(local.detach(), mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


class _GatherBatch(torch.autograd.Function):
    """One node with every collective of a backward pass, so that each rank has the same ones in the same order."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, unit: Tensor, norm: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        both = ranks.gather(torch.cat([unit, norm[:, None]], dim=1))
        copies = (parameter.view_as(parameter) for parameter in parameters)
        return both[:, :-1].contiguous(), both[:, -1].contiguous(), *copies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_unit, d_norm, *d_parameters = (grad.contiguous().clone() for grad in grads)
        for part in (d_unit, *d_parameters):  # each rank has the part from its own classes
            dist.all_reduce(part, group=ctx.ranks.group)
        return None, ctx.ranks.own(d_unit), ctx.ranks.own(d_norm), *d_parameters


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        total = value.clone()
        dist.all_reduce(total, group=ranks.group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log: Tensor, counts: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
        top = log.clone()
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=ranks.group)
        top = top.masked_fill(top == -math.inf, 0)
        sums = torch.cat([(log - top).exp(), counts.to(log.dtype)])
        dist.all_reduce(sums, group=ranks.group)
        total, counted = sums[: len(log)], sums[len(log) :]
        result = top + total.log()
        ctx.save_for_backward(log, result)
        ctx.mark_non_differentiable(counted)
        return result, counted

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        log, result = ctx.saved_tensors
        return grads[0] * (log - result.masked_fill(result == -math.inf, 0)).exp(), None, None


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """`value` itself; its gradient is multiplied by `factor`."""
    result = value.view_as(value)
    if result.requires_grad:
        result.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]
    return result


def keep_shards_local(model: nn.Module) -> nn.Module:
    """Tells DistributedDataParallel to leave the sharded centres in `model` alone; returns `model`.

    DDP would copy rank 0's shard over those of the other ranks and average their gradients. It asks only the module
    that it wraps, so call this on that one, before wrapping: on the LightningModule at the end of its `__init__`, on
    the model before `accelerator.prepare`. FSDP takes the same parameters as `ignored_params`.
    """
    ignored = set(getattr(model, "_ddp_params_and_buffers_to_ignore", ()))
    for prefix, module in model.named_modules():
        if isinstance(getattr(module, "ranks", None), Ranks):
            ignored |= {f"{prefix}.weight", f"{prefix}.weight".removeprefix(".")}
    model._ddp_params_and_buffers_to_ignore = ignored  # type: ignore[assignment]  # DDP reads any container of names
    return model


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


_everyone = functools.lru_cache(maxsize=1)(Ranks)


@torch.no_grad()
def guarded_update(head: MarginHead, cos_y: Tensor, norm: Tensor, finite: Tensor) -> None:
    """`head.update`, undone without a host sync where `finite` is false: a running mean would never lose a NaN."""
    before = [buffer.clone() for buffer in head.buffers()]
    head.update(cos_y.detach(), norm.detach())
    for buffer, old in zip(head.buffers(), before, strict=True):
        buffer.copy_(torch.where(finite, buffer, old))
