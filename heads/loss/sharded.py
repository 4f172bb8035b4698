"""Class centres split over the processes of a torch.distributed group: which rank owns which, and the collectives.

Every process computes the same loss of the global batch from its own classes. Quantities that are equal on all
processes (norms, target cosines, the loss) have the whole gradient on each; only the unit vectors have a partial
gradient, which is summed once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from zoo.errors import InputError

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

    A forward has these collectives: all_gather of (batch, dim + 1) and of the labels; all_reduce of the target
    cosines, of the maxima and of the sums, (ranks·batch,) each. A backward has one all_reduce of (ranks·batch, dim).
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.count = dist.get_world_size(group)

    def gather_batch(self, unit: Tensor, norm: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The global batch in rank order: (ranks·batch, dim), (ranks·batch,), (ranks·batch,)."""
        all_labels = self._gather(labels)
        all_unit, all_norm = _GatherBatch.apply(unit, norm, self)
        return all_unit, all_norm, all_labels

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the ranks of the parts of a quantity; the gradient of each part is that of the sum."""
        result: Tensor = _Sum.apply(value, self)
        return result

    def log_sum_exp(self, log: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """log Σ e^log over the ranks, and the sum of `counts`, which has no gradient: (batch,), (k,)."""
        result: tuple[Tensor, Tensor] = _LogSumExp.apply(log, counts, self)
        return result

    def agree(self, value: int, device: torch.device) -> int:
        """Rank 0's value."""
        shared = torch.tensor(value, dtype=torch.int64, device=device)
        dist.broadcast(shared, group=self.group, group_src=0)
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

    def _gather(self, value: Tensor) -> Tensor:
        out = value.new_empty((self.count * len(value), *value.shape[1:]))
        _all_gather(out, value.contiguous(), group=self.group)
        return out


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, norm: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
        ctx.ranks = ranks
        both = ranks._gather(torch.cat([unit, norm[:, None]], dim=1))
        return both[:, :-1].contiguous(), both[:, -1].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        d_unit, d_norm = grads
        total = d_unit.contiguous().clone()  # each rank has the part from its own classes
        dist.all_reduce(total, group=ctx.ranks.group)
        return ctx.ranks.own(total), ctx.ranks.own(d_norm), None


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


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """`value` itself; its gradient is multiplied by `factor`."""
    result: Tensor = _ScaleGradient.apply(value, factor)
    return result


def require_initialised() -> None:
    """InputError where torch.distributed is not initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError("expected an initialised process group for sharded centres, found none; start with torchrun")
