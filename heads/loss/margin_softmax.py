"""The class centres and the loss: from embeddings and labels to a scalar, for any head."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.heads.base import MarginHead, guarded_update
from zoo.heads.counter_rng import random_bits
from zoo.heads.loss.chunked import NORM_FLOOR, Plan, chunked_log_sum_exp, target_cosines
from zoo.heads.loss.sampling import columns_of, sample_classes, take_rows
from zoo.heads.loss.sharded import Ranks, require_initialised, scale_gradient, shard_range

HARD_SHARE_ROWS = 32
"""The share of hard negatives, which only the log uses, is counted on about this many evenly spaced samples."""

CHUNK_BYTES = {"cpu": 2**21}
"""The size of a chunk of cosines, by device, where `chunk_size` is "auto": on a CPU, what fits the L2 cache."""
CHUNK_BYTES_ELSEWHERE = 2**26


class MarginSoftmaxLoss(nn.Module):
    """The mean loss of a margin head over class centres that it owns.

    With unit vectors u of an embedding and ŵ_j of the centres, cos θ_j = ⟨u, ŵ_j⟩, and T, N, s of the head,

        L = softplus( LSE_{j≠y}(s·N_j) − s·T ) + penalty(‖x‖)

    which is equation (1) without the cancellation that makes `cross_entropy` return 0 at a gap of 20 in float32.
    Cosines are computed in float32 (float64 for float64 centres), also under autocast.

    All options compose, with every head:

    `chunk_size`: the number of classes computed at a time, so that the (batch, classes) matrix is never stored;
    "auto" chooses it for the device, None computes the whole matrix (the reference). Values that the backward pass
    needs are kept in the memory of the centres' gradient (all of them where batch ≤ dim) and in `memory_budget`
    further bytes; the rest is computed twice. `compiled` fuses the elementwise part of a chunk with torch.compile,
    which needs a C++ compiler on a CPU and takes some seconds in the first step.

    `process_group`: the classes are split over its ranks, and `weight` holds those of this rank. The loss and its
    gradients are those of the global batch, on every rank; all ranks must have batches of the same size. DDP
    averages gradients over the ranks, so the gradient of the embeddings is multiplied by their number here, and
    nowhere else. `Ranks` lists the collectives.

    `sample_rate`: the fraction of classes in a training step (Partial FC): all positives, and negatives sampled in
    each step. `weight.grad` is then sparse; `RowwiseSGD` and `RowwiseAdamW` update only its rows.

    `sub_centres`: K centres per class, of which the nearest counts.

    `straight_through` replaces T by cos_y + (T − cos_y).detach(): the value includes the margin, the gradient is
    that of the plain cosine. insightface's loss is `straight_through=True` with `fallback="none"`.

    A forward sets, without a host sync, `finite`, a scalar bool tensor (where it is false, skip the optimizer step;
    the head's running state is unchanged), and `mean_target_cosine`, a detached scalar. `stats()` has all values
    for the log. `check(step)` raises for a bad batch, with a sync.

    `state_dict()` holds `weight` (classes, dim), or (classes, K, dim), and the head's buffers (`head.t`, …);
    `distributed_state()` has the same for torch.distributed.checkpoint. The initial centres depend on `seed` only
    (drawn from torch's generator where it is None), not on the number of ranks.
    """

    sample_step: Tensor

    def __init__(
        self,
        head: MarginHead,
        num_classes: int,
        embedding_dim: int,
        *,
        chunk_size: int | Literal["auto"] | None = "auto",
        memory_budget: int = 96 * 2**20,
        compiled: bool = False,
        process_group: dist.ProcessGroup | None = None,
        sample_rate: float = 1.0,
        sub_centres: int = 1,
        straight_through: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"expected at least 2 classes, found {num_classes}; a margin separates classes")
        if embedding_dim < 2:
            raise InputError(f"expected an embedding of at least 2 dimensions, found {embedding_dim}")
        if isinstance(chunk_size, int) and chunk_size <= 0:
            raise InputError(f"expected a positive chunk_size, found {chunk_size}; 'auto' chooses one")
        if memory_budget < 0:
            raise InputError(f"expected a memory_budget of at least 0 bytes, found {memory_budget}")
        if not 0 < sample_rate <= 1:
            raise InputError(f"expected a sample_rate above 0 and at most 1, found {sample_rate}; 1 keeps every class")
        if sub_centres < 1:
            raise InputError(f"expected at least 1 sub-centre per class, found {sub_centres}")
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.chunk_size = chunk_size
        self.memory_budget = memory_budget
        self.compiled = compiled
        self.sample_rate = sample_rate
        self.sub_centres = sub_centres
        self.straight_through = straight_through
        if process_group is not None:
            require_initialised()
        self.ranks = Ranks(process_group) if process_group is not None else None
        self.classes = shard_range(num_classes, self.ranks.rank, self.ranks.count) if self.ranks else range(num_classes)
        """The classes whose centres are rows of `weight`."""
        self.seed = int(torch.randint(2**31, ())) if seed is None else seed
        if self.ranks:
            self.seed = self.ranks.agree(self.seed, torch.device(_collective_device(self.ranks.group)))
        shape = (embedding_dim,) if sub_centres == 1 else (sub_centres, embedding_dim)
        self.weight = nn.Parameter(initial_centres(self.classes, shape, self.seed))
        if sample_rate < 1:
            self.register_buffer("sample_step", torch.zeros((), dtype=torch.int64))
        self.head = head
        head.bind(num_classes, embedding_dim)
        self.finite: Tensor = torch.tensor(True)
        self.mean_target_cosine: Tensor = torch.tensor(math.nan)
        self._last: dict[str, Tensor] = {}
        self._labels: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss, a scalar: embeddings (batch, dim) as the backbone gives them, labels (batch,) int64.

        InputError for embeddings of another dimension, labels of another dtype or shape and, on the CPU, a label
        out of range; on an accelerator such a label makes the loss NaN, and `check` names it.
        """
        self._refuse_misfits(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(self.weight.dtype, torch.float32))
            if self.ranks:
                x = scale_gradient(x, self.ranks.count)
            norm = torch.linalg.vector_norm(x, dim=1)
            unit = x / norm.clamp_min(NORM_FLOOR)[:, None]
            if self.ranks:
                unit, norm, labels = self.ranks.gather_batch(unit, norm, labels)
            in_range = (labels >= 0) & (labels < self.num_classes)
            weight, column = self._participants(labels.clamp(0, self.num_classes - 1))
            compute = self._dense if self.chunk_size is None and len(weight) else self._chunked
            cos_y, others, hard = compute(unit, norm, weight, column)
            counts = torch.stack([hard, hard.new_tensor(len(weight) // self.sub_centres)])
            if self.ranks:
                others, counts = self.ranks.log_sum_exp(others, counts)
            losses = softplus(others - self.head.scale * self._target(cos_y, norm))
            loss = torch.where(in_range, losses, math.nan).mean() + self.head.penalty(norm)
        self.finite = self.finite & in_range.all() & loss.detach().isfinite()
        rows = len(range(*hard_rows(len(labels)).indices(len(labels))))
        self._last["hard_negative_share"] = counts[0] / (rows * (counts[1] - 1).clamp_min(1))
        return loss

    def _participants(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The centres of this step, (classes·K, dim), and each sample's class among them, −1 where it is not there."""
        weight: Tensor = self.weight
        if self.sample_rate < 1 and self.training:
            rows = sample_classes(labels, self.classes, self.sample_rate, self.seed, self.sample_step)
            self.sample_step.add_(1)
            weight = take_rows(weight, rows)
            column = columns_of(labels - self.classes.start, rows)
        else:
            offset = labels - self.classes.start
            column = torch.where((offset >= 0) & (offset < len(self.classes)), offset, -1)
        return weight if weight.ndim == 2 else weight.flatten(0, 1), column

    def _dense(self, unit: Tensor, norm: Tensor, weight: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(cos θ_y, LSE of the others, number of hard negatives) from the whole matrix of cosines."""
        cosines = unit @ F.normalize(weight.to(unit.dtype), eps=NORM_FLOOR).T
        if self.sub_centres > 1:
            cosines = cosines.view(len(unit), -1, self.sub_centres).max(2).values
        mine, place = column[:, None] >= 0, column.clamp_min(0)[:, None]
        cos_y = cosines.gather(1, place).masked_fill(~mine, 0).squeeze(1)
        if self.ranks:
            cos_y = self.ranks.sum(cos_y)
        boundary = self._prepare(cos_y, norm)
        logits = self.head.scale * self.head.negative(cosines, boundary[:, None])
        others = logits.scatter(1, place, logits.gather(1, place).masked_fill(mine, -math.inf)).logsumexp(1)
        rows = hard_rows(len(unit))
        above = cosines.detach()[rows] > boundary[rows, None]
        hard = above.sum() - (above.gather(1, place[rows]) & mine[rows]).sum()
        return cos_y, others, hard.to(unit.dtype)

    def _chunked(self, unit: Tensor, norm: Tensor, weight: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same a chunk of classes at a time."""
        cos_y = target_cosines(unit, weight, column, self.sub_centres)
        if self.ranks:
            cos_y = self.ranks.sum(cos_y)
        boundary = self._prepare(cos_y, norm)
        plan = Plan(self._chunk(unit), self.memory_budget, self.sub_centres, self.compiled, hard_rows(len(unit)))
        return chunked_log_sum_exp(unit, weight, column, cos_y, boundary, self.head, plan)

    def _chunk(self, unit: Tensor) -> int:
        if isinstance(self.chunk_size, int):
            return self.chunk_size
        budget = CHUNK_BYTES.get(unit.device.type, CHUNK_BYTES_ELSEWHERE)
        classes = budget // (unit.element_size() * len(unit) * self.sub_centres)
        return max(64, classes // 64 * 64)

    def _prepare(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """B of the global batch, (batch,), after updating the head's running state; keeps values for the log."""
        cos_y, norm = cos_y.detach(), norm.detach()
        self.finite = norm.isfinite().all() & cos_y.isfinite().all()
        if self.training:
            guarded_update(self.head, cos_y, norm, self.finite)
        self.mean_target_cosine = cos_y.mean()
        self._last = {"embedding_norm": norm.mean()}
        with torch.no_grad():
            return self.head.boundary(cos_y, norm).detach()

    def _target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """T of the global batch, with the gradient that `straight_through` selects: (batch,)."""
        target = self.head.target(cos_y, norm)
        return cos_y + (target - cos_y).detach() if self.straight_through else target

    def stats(self) -> dict[str, Tensor]:
        """The last forward's values for the log: {name: detached scalar on the device}.

        Always `mean_target_cosine`, `embedding_norm` (mean) and `hard_negative_share` (the fraction of non-target
        cosines above the head's boundary, on about 32 evenly spaced samples), then the head's own, such as `t`.
        """
        return {"mean_target_cosine": self.mean_target_cosine, **self._last, **self.head.stats()}

    def check(self, step: int) -> None:
        """Raises InputError where the last forward, that of `step`, was not finite; waits for the device.

        Call it where the loss is read anyway, e.g. when logging.
        """
        if bool(self.finite):
            return
        if self._labels is not None:
            self._refuse_out_of_range(self._labels)
        raise InputError(
            f"expected finite embeddings and a finite loss, found NaN or infinity in step {step}; the update "
            "must be skipped: lower the learning rate, or look for broken images in that batch"
        )

    def distributed_state(self) -> dict[str, Any]:
        """`state_dict()` with the sharded centres as a DTensor, for torch.distributed.checkpoint's save and load.

        Loading fills the tensors of this module in place, from a checkpoint of any number of ranks.
        """
        state = self.state_dict()
        if self.ranks:
            state["weight"] = self.ranks.distributed(self.weight, self.num_classes)
        return state

    def _refuse_misfits(self, embeddings: Tensor, labels: Tensor) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise InputError(
                f"expected embeddings of shape (batch, {self.embedding_dim}), found "
                f"{tuple(embeddings.shape)}; give the loss the backbone's embedding_dim"
            )
        if labels.dtype != torch.int64:
            raise InputError(f"expected labels of dtype int64, found {labels.dtype}; pass labels.long()")
        if labels.shape != embeddings.shape[:1] or len(labels) == 0:
            raise InputError(
                f"expected one label for each of at least one embedding, found labels of shape "
                f"{tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
            )
        self._labels = labels.detach()
        if labels.device.type == "cpu":
            self._refuse_out_of_range(labels)

    def _refuse_out_of_range(self, labels: Tensor) -> None:
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise InputError(
                f"expected labels from 0 to {self.num_classes - 1}, found {int(wrong[0])}; "
                "build the loss with the dataset's num_classes"
            )


def softplus(gap: Tensor) -> Tensor:
    """log(1 + e^gap), exact to the last digit in value and gradient; torch's default turns linear at 20."""
    return F.softplus(gap, threshold=50)


def hard_rows(batch: int) -> slice:
    """The samples of a batch whose hard negatives are counted."""
    return slice(0, batch, max(1, batch // HARD_SHARE_ROWS))


INITIAL_STD = 0.01
BLOCK = 4096


def initial_centres(classes: range, shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal centres of `classes`, (classes, *shape); those of a class do not depend on the split over ranks."""
    centres = torch.empty(len(classes), *shape)
    for start in range(classes.start // BLOCK * BLOCK, classes.stop, BLOCK):
        generator = torch.Generator().manual_seed(_block_seed(seed, start // BLOCK))
        block = torch.empty(BLOCK, *shape).normal_(std=INITIAL_STD, generator=generator)
        first, last = max(start, classes.start), min(start + BLOCK, classes.stop)
        centres[first - classes.start : last - classes.start] = block[first - start : last - start]
    return centres


def _block_seed(seed: int, block: int) -> int:
    """A seed of 32 bits: torch's CPU generator ignores the others."""
    return int(random_bits(seed, torch.tensor(block), 1)) & 0xFFFFFFFF


def _collective_device(group: dist.ProcessGroup) -> str:
    return "cuda" if dist.get_backend(group) == "nccl" else "cpu"
