"""Which of the forms computes the sum over the other classes: dense, chunked, checkpointed, or a GPU's kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.heads.base import MarginHead
from zoo.heads.gpu import runs_kernels
from zoo.heads.loss.chunked import chunked_log_sum_exp
from zoo.heads.loss.dense import FORMS, Negatives, Plan, nearest_cosines, negatives_of, target_cosines
from zoo.heads.loss.fused import fused_sum, plan_chunks, unsuitable

CHUNK_BYTES = {"cpu": 2**21}  #: A chunk of cosines, by device, for `chunk_size` "auto": what fits a CPU's L2 cache
CHUNK_BYTES_ELSEWHERE = 2**26
MEMORY_BUDGET = 96 * 2**20  #: Bytes for values kept beyond the centres' gradient, where `memory_budget` is None
MEMORY_BUDGET_FUSED = (480 * 2**20, 300 * 2**10)  #: Bytes beside centres and gradient on a GPU: least; per sample


@dataclass(frozen=True)
class Way:
    """The options of MarginSoftmaxLoss that decide it."""

    chunk_size: int | Literal["auto"] | None
    memory_budget: int | None
    tell_once: Callable[[str], None]  #: Takes what a user should know of the choice

    def budget(self, default: int) -> int:
        """The bytes that a form may take."""
        return default if self.memory_budget is None else self.memory_budget

    def classes_at_once(self, unit: Tensor, sub_centres: int) -> int:
        """Classes per chunk."""
        if isinstance(self.chunk_size, int):
            return self.chunk_size
        budget = CHUNK_BYTES.get(unit.device.type, CHUNK_BYTES_ELSEWHERE)
        classes = budget // (unit.element_size() * len(unit) * sub_centres)
        return max(64, classes // 64 * 64)

    def cosines(self, unit: Tensor, centres: Tensor, column: Tensor, plan: Plan) -> tuple[Tensor, Tensor | None]:
        """cos θ_y of these centres, (batch,), exact in any precision; the whole matrix of cosines in the dense form."""
        dense = self.chunk_size is None
        with torch.set_grad_enabled(dense and torch.is_grad_enabled()):
            cos_y = target_cosines(unit, centres, column, plan.sub_centres)
        return cos_y, nearest_cosines(unit, centres, plan.sub_centres, plan.precision) if dense else None

    def negatives(
        self,
        unit: Tensor,
        centres: Tensor,
        column: Tensor,
        cos_y: Tensor,
        cosines: Tensor | None,
        boundary: Tensor,
        head: MarginHead,
        plan: Plan,
    ) -> tuple[Tensor, Negatives]:
        """cos θ_y with its gradient, and what the other classes among `centres` add up to."""
        if cosines is not None:
            return cos_y, negatives_of(cosines, column, boundary, head, plan)
        given = unit, centres, column, cos_y, boundary, head
        if runs_kernels(unit.device):
            why = unsuitable(head, unit, plan)
            if why is None:
                least, each = MEMORY_BUDGET_FUSED
                budget = self.budget(max(least, each * len(unit)))
                plan = plan_chunks(unit, centres, head, plan, budget, self.chunk_size)
                cos_y, others, hard = fused_sum(*given, plan)
                return cos_y, Negatives(others, hard)
            self.tell_once(f"the class centres take more time than they need on a GPU: {why}")
        state = [*head.parameters(), *head.__dict__.values()]  # a frozen head holds what it learns as plain tensors
        learns = torch.is_grad_enabled() and any(isinstance(p, Tensor) and p.requires_grad for p in state)
        if learns or isinstance(head.scale, Tensor) or head.form != "softmax" or plan.smooth:
            return checkpointed_negatives(*given, plan)
        cos_y, others, hard = chunked_log_sum_exp(*given, plan)
        return cos_y, Negatives(others, hard)


def checkpointed_negatives(
    unit: Tensor, weight: Tensor, column: Tensor, cos_y: Tensor, boundary: Tensor, head: MarginHead, plan: Plan
) -> tuple[Tensor, Negatives]:
    """(cos θ_y, the sums over the other classes), with gradients for `unit`, `weight` and the head's parameters.

    Arguments as of `chunked_log_sum_exp`. Each chunk's matrix of cosines is computed again in the backward pass, four
    matrix products in all, and the centres' gradient takes three times its own memory for a moment. It serves
    heads with learnable parameters, the binary form and label smoothing; `Plan.compiled` changes nothing here.
    """
    others, totals = [], []
    hard = unit.new_zeros(())
    first = 0
    for chunk in torch.split(weight, plan.chunk_size * plan.sub_centres):  # one node: its gradient is joined once
        classes = len(chunk) // plan.sub_centres
        inside = (column >= first) & (column < first + classes)
        part = torch.where(inside, column - first, -1)
        other, above, total = checkpoint(
            _chunk, unit, chunk, part, boundary, head, plan, use_reentrant=False, preserve_rng_state=False
        )
        others.append(other)
        totals.append(total)
        hard = hard + above
        first += classes
    # the value as the boundary and T saw it, which with sharded centres comes from the rank that owns the class
    local = target_cosines(unit, weight, column, plan.sub_centres)
    cos_y = cos_y + (local - local.detach())
    summed = torch.stack(totals).sum(0) if plan.smooth else None
    return cos_y, Negatives(FORMS[head.form].over_chunks(torch.stack(others)), hard, summed)


def _chunk(
    unit: Tensor, weight: Tensor, column: Tensor, boundary: Tensor, head: MarginHead, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    cosines = nearest_cosines(unit, weight, plan.sub_centres, plan.precision)
    found = negatives_of(cosines, column, boundary, head, plan)
    return found.others, found.hard, found.others if found.total is None else found.total
