"""Which of the forms computes the sum over the other classes: dense, chunked, checkpointed, or a GPU's kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.heads.base import MarginHead, learned_by
from zoo.heads.gpu import runs_kernels
from zoo.heads.loss.chunked import chunked_log_sum_exp
from zoo.heads.loss.dense import FORMS, Block, Negatives, Plan, nearest_cosines, negatives_of, target_cosines
from zoo.heads.loss.fused import fused_sum, plan_chunks, unsuitable

HARD_SHARE_ROWS = 32  #: The log's share of hard negatives is counted on about so many evenly spaced samples
CHUNK_BYTES = 2**21, 2**26  #: A chunk of cosines for `chunk_size` "auto": what fits a CPU's L2 cache; on a GPU
MEMORY_BUDGET = 96 * 2**20  #: Bytes for values kept beyond the centres' gradient, where `memory_budget` is None
MEMORY_BUDGET_FUSED = (480 * 2**20, 300 * 2**10)  #: Bytes beside centres and gradient on a GPU: least; per sample


def plan_of(loss: Any, unit: Tensor, precision: str) -> Plan:
    """How a MarginSoftmaxLoss goes through the classes for unit vectors (batch, dim)."""
    size, budget = loss.chunk_size, loss.memory_budget
    if not isinstance(size, int):
        chunk_bytes = CHUNK_BYTES[unit.device.type != "cpu"]
        size = max(64, chunk_bytes // (unit.element_size() * len(unit) * loss.sub_centres) // 64 * 64)
    keep = MEMORY_BUDGET if budget is None else budget
    counted, smooth = slice(0, None, max(1, len(unit) // HARD_SHARE_ROWS)), loss.label_smoothing > 0
    return Plan(size, keep, loss.sub_centres, loss.compiled, counted, loss.filter_above, smooth, precision)


def negatives(loss: Any, block: Block, head: MarginHead, plan: Plan) -> tuple[Tensor, Negatives]:
    """cos θ_y with its gradient, which the dense form has already, and the sum of the other classes, as `loss` asks."""
    if loss.chunk_size is None:
        return block.cos_y, _whole(block, head, plan)
    if runs_kernels(block.unit.device):
        if (why := unsuitable(head, block.unit, plan)) is None:
            least, each = MEMORY_BUDGET_FUSED
            budget = max(least, each * len(block.unit)) if loss.memory_budget is None else loss.memory_budget
            plan = plan_chunks(block.unit, block.weight, head, plan, budget, loss.chunk_size)
            cos_y, others, hard = fused_sum(block, head, plan)
            return cos_y, Negatives(others, hard)
        loss._watch.tell_once(f"the class centres take more time than they need on a GPU: {why}")
    learns = torch.is_grad_enabled() and bool(learned_by(head))
    if learns or isinstance(head.scale, Tensor) or head.form != "softmax" or plan.smooth:
        return checkpointed_negatives(block, head, plan)
    cos_y, others, hard = chunked_log_sum_exp(block, head, plan)
    return cos_y, Negatives(others, hard)


def checkpointed_negatives(block: Block, head: MarginHead, plan: Plan) -> tuple[Tensor, Negatives]:
    """(cos θ_y, the sums over the other classes) by four products a chunk, with gradients of the head's parameters too.

    The centres' gradient takes three times its own memory for a moment; `Plan.compiled` changes nothing here.
    """
    unit, weight, column, cos_y, boundary = block
    parts, first = [], 0
    for chunk in torch.split(weight, plan.chunk_size * plan.sub_centres):  # one node: its gradient is joined once
        last = first + len(chunk) // plan.sub_centres
        part = torch.where((column >= first) & (column < last), column - first, -1)
        given = Block(unit, chunk, part, cos_y, boundary), head, plan
        parts.append(checkpoint(_whole, *given, use_reentrant=False, preserve_rng_state=False))
        first = last
    # the value as the boundary and T saw it, which with sharded centres comes from the rank that owns the class
    local = target_cosines(unit, weight, column, plan.sub_centres)
    cos_y = cos_y + (local - local.detach())
    others = FORMS[head.form].over_chunks(torch.stack([part.others for part in parts]))
    totals = [part.total for part in parts if part.total is not None]
    hard = torch.stack([part.hard for part in parts]).sum()
    return cos_y, Negatives(others, hard, torch.stack(totals).sum(0) if totals else None)


def _whole(block: Block, head: MarginHead, plan: Plan) -> Negatives:
    """The sums over the other classes by the whole matrix of cosines."""
    cosines = nearest_cosines(block.unit, block.weight, plan.sub_centres, plan.precision)
    return negatives_of(cosines, block.column, block.boundary, head, plan)
