"""What every form of centres computes of a block of classes, in plain differentiable torch: the reference."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.heads.base import MarginHead
from zoo.heads.loss.precision import product
from zoo.heads.loss.sharded import Ranks

NORM_FLOOR = 1e-12  #: The least norm that centres are divided by; an embedding of no larger one has no direction


@dataclass(frozen=True)
class Plan:
    """How one forward goes through the classes, and what it keeps for the backward pass."""

    chunk_size: int  #: Classes per chunk
    keep_bytes: int  #: Memory beyond the gradient's own for values that the backward pass would compute again
    sub_centres: int = 1  #: Centres per class: rows j·sub_centres to (j + 1)·sub_centres of the weight
    compiled: bool = False  #: Whether torch.compile fuses the elementwise part of a full chunk
    counted: slice = field(default_factory=lambda: slice(0, 0))  #: Samples whose cosines above the boundary are counted
    filter_above: float | None = None  #: Non-target cosines above it are left out
    smooth: bool = False  #: Whether the sum of the logits is needed too, for label smoothing
    precision: str = "fp32"  #: Of the products with the centres


class Block(NamedTuple):
    """Some classes, and the batch whose cosines to them are summed."""

    unit: Tensor  #: (batch, dim)
    weight: Tensor  #: (classes·sub_centres, dim), of any norm
    column: Tensor  #: (batch,): each sample's class among these, −1 where it is not among them
    cos_y: Tensor  #: (batch,): `target_cosines`
    boundary: Tensor  #: (batch,)


@dataclass(frozen=True)
class Negatives:
    """What the loss needs of the other classes of each sample."""

    others: Tensor  #: (batch,): the form's sum over them
    hard: Tensor  #: (): the number of cosines above the boundary, among the samples that are counted; no gradient
    total: Tensor | None = None  #: (batch,): Σ s·N, where the plan is to `smooth`


class Form:
    """A loss over logits: what is summed over the negatives, and how the parts of chunks and ranks add up.

    This one is softplus(LSE_{j≠y}(s·N_j) − s·T): cross-entropy without the cancellation that makes it 0 at a gap of 20.
    """

    def over_classes(self, logits: Tensor, head: MarginHead) -> Tensor:
        """(batch, classes) with −∞ for classes that are left out → (batch,)."""
        return logits.logsumexp(1) if logits.shape[1] else logits.sum(1) - math.inf

    def over_chunks(self, parts: Tensor) -> Tensor:
        """(chunks, batch) → (batch,)."""
        return parts.logsumexp(0)

    def over_ranks(self, others: Tensor, counts: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
        """The sum over the ranks, and that of `counts`, without gradient."""
        return ranks.log_sum_exp(others, counts)

    def loss(self, target: Tensor, others: Tensor, head: MarginHead) -> Tensor:
        """The loss of each sample from s·T and the sum over the others: (batch,), (batch,) → (batch,)."""
        return softplus(others - target)


class BinaryForm(Form):
    """w⁺·softplus(b − s·T) + w⁻·Σ_{j≠y} softplus(s·N_j − b): one binary classification for each class."""

    def over_classes(self, logits: Tensor, head: MarginHead) -> Tensor:
        return softplus(logits - head.bias).sum(1)

    def over_chunks(self, parts: Tensor) -> Tensor:
        return parts.sum(0)

    def over_ranks(self, others: Tensor, counts: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
        both = ranks.sum(torch.cat([others, counts.to(others.dtype)]))
        return both[: len(others)], both[len(others) :].detach()

    def loss(self, target: Tensor, others: Tensor, head: MarginHead) -> Tensor:
        return head.positive_weight * softplus(head.bias - target) + head.negative_weight * others


FORMS = {"softmax": Form(), "binary": BinaryForm()}  #: By `MarginHead.form`


def softplus(gap: Tensor) -> Tensor:
    """log(1 + e^gap), exact to the last digit in value and gradient; torch's default turns linear at 20."""
    return F.softplus(gap, threshold=50)


def nearest_cosines(unit: Tensor, weight: Tensor, sub_centres: int, precision: str = "fp32") -> Tensor:
    """Each class's largest cosine: (batch, dim), (classes·sub_centres, dim) → (batch, classes)."""
    cosines = product(unit, F.normalize(weight.to(unit.dtype), eps=NORM_FLOOR).T, precision)
    return cosines if sub_centres == 1 else cosines.view(len(unit), -1, sub_centres).max(2).values


def target_cosines(unit: Tensor, weight: Tensor, column: Tensor, sub_centres: int) -> Tensor:
    """The largest cosine to each sample's own class, in any precision exact, 0 where `column` is −1: (batch,)."""
    if len(weight) == 0:
        return unit.sum(1) * 0
    rows = column.clamp_min(0)[:, None] * sub_centres + torch.arange(sub_centres, device=column.device)
    cosines = (unit[:, None] * F.normalize(weight[rows].to(unit.dtype), dim=2, eps=NORM_FLOOR)).sum(2)
    return cosines.max(1).values.masked_fill(column < 0, 0)


def negatives_of(cosines: Tensor, column: Tensor, boundary: Tensor, head: MarginHead, plan: Plan) -> Negatives:
    """The sum over every class but each sample's own, which `column` names, −1 where it is not among these."""
    form = FORMS[head.form]
    if cosines.shape[1] == 0:
        total = cosines.sum(1) if plan.smooth else None
        return Negatives(form.over_classes(cosines, head), cosines.new_zeros(()), total)
    mine, place = column[:, None] >= 0, column.clamp_min(0)[:, None]
    logits = head.scale * head.negative(cosines, boundary[:, None])
    if plan.filter_above is not None:
        logits = torch.where(cosines > plan.filter_above, -math.inf, logits)
    logits = logits.scatter(1, place, logits.gather(1, place).masked_fill(mine, -math.inf))
    total = torch.where(logits == -math.inf, 0, logits).sum(1) if plan.smooth else None
    above = cosines.detach()[plan.counted] > boundary[plan.counted, None]
    hard = above.sum() - (above.gather(1, place[plan.counted]) & mine[plan.counted]).sum()
    return Negatives(form.over_classes(logits, head), hard.to(cosines.dtype), total)


def directions(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (batch, dim) and norms (batch,); a zero embedding has no direction, so zeros without a gradient."""
    norm = torch.linalg.vector_norm(embeddings, dim=1)
    zero = norm.detach() <= NORM_FLOOR
    return (embeddings / norm.masked_fill(zero, 1)[:, None]).masked_fill(zero[:, None], 0), norm
