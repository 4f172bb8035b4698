"""The sum over all classes a chunk at a time by autograd itself, for heads that the fast path cannot differentiate."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.heads.base import MarginHead
from zoo.heads.loss.dense import FORMS, Negatives, Plan, nearest_cosines, negatives_of, target_cosines


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
