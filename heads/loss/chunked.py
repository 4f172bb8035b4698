"""The log-sum-exp over all classes, a chunk of classes at a time: the (batch, classes) matrix is never stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.heads.base import MarginHead

NORM_FLOOR = 1e-12
"""Lower bound of the norm by which embeddings and centres are divided: a zero vector gives zeros, not NaN."""


@dataclass(frozen=True)
class Plan:
    """How one forward splits the classes into chunks, and what it keeps for the backward pass."""

    chunk_size: int
    """Classes per chunk."""
    keep_bytes: int
    """Memory, beyond the gradient's own, for values that the backward pass would otherwise compute again."""
    sub_centres: int = 1
    """Centres per class: rows j·sub_centres to (j + 1)·sub_centres of the weight."""
    compiled: bool = False
    """Whether torch.compile fuses the elementwise part of a full chunk."""
    counted: slice = field(default_factory=lambda: slice(0, 0))
    """The samples whose cosines above the boundary are counted."""


def chunked_log_sum_exp(
    unit: Tensor, weight: Tensor, column: Tensor, cos_y: Tensor, boundary: Tensor, head: MarginHead, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """The target cosine and the log-sum-exp of the others, with gradients for `unit` and `weight`.

    unit (batch, dim), weight (classes·sub_centres, dim), column (batch,): each sample's class among these, −1
    where it is not among them; cos_y (batch,): `target_cosines`; boundary (batch,). Equals

        cos = (unit @ normalize(weight).T).view(batch, classes, sub_centres).amax(2)
        cos_y = cos.gather(1, column)                                  # 0 where column is −1
        lse = (s * head.negative(cos, boundary)).scatter(1, column, -inf).logsumexp(1)

    and returns cos_y and lse, both (batch,), and the number of non-target cosines above the boundary among the
    samples `plan.counted`. The cos_y of a class that is not among these has no gradient here.

    A chunk kept for the backward pass takes three matrix products, any other four. Chunks are kept in the memory of
    the weight's gradient, which is not needed before: all of them where batch ≤ dim.
    """
    result: tuple[Tensor, Tensor, Tensor] = _ChunkedLogSumExp.apply(unit, weight, column, cos_y, boundary, head, plan)
    return result


@torch.no_grad()
def target_cosines(unit: Tensor, weight: Tensor, column: Tensor, sub_centres: int) -> Tensor:
    """cos θ_y where a sample's class is among these, else 0: (batch,), without gradient."""
    if len(weight) == 0:
        return unit.new_zeros(len(unit))
    rows, _ = _target_rows(unit, weight, column, sub_centres)
    centres, _ = _unit_rows(weight, rows, unit.dtype)
    return (unit * centres).sum(1).masked_fill(column < 0, 0)


def _target_rows(unit: Tensor, weight: Tensor, column: Tensor, sub_centres: int) -> tuple[Tensor, Tensor]:
    """The row of each sample's nearest own sub-centre, and whether its class is among these; else any valid row."""
    first = column.clamp_min(0) * sub_centres
    if sub_centres == 1:
        return first, column >= 0
    rows = first[:, None] + torch.arange(sub_centres, device=first.device)
    centres, _ = _unit_rows(weight, rows.flatten(), unit.dtype)
    cos = (centres.view(*rows.shape, -1) * unit[:, None]).sum(2)
    return first + cos.argmax(1), column >= 0


def _unit_rows(weight: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    chosen = weight[rows].to(dtype)
    lengths = torch.linalg.vector_norm(chosen, dim=1, keepdim=True).clamp_min(NORM_FLOOR)
    return chosen / lengths, lengths


class _ChunkedLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        weight: Tensor,
        column: Tensor,
        cos_y: Tensor,
        boundary: Tensor,
        head: MarginHead,
        plan: Plan,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(unit.device.type, enabled=False):
            inverse = 1 / torch.linalg.vector_norm(weight, dim=1, dtype=unit.dtype).clamp_min(NORM_FLOOR)
            top = unit.new_full((len(unit),), -math.inf)
            total = unit.new_zeros(len(unit))
            counted, hard = plan.counted, unit.new_zeros(())
            needs_gradient = any(ctx.needs_input_grad)
            d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format) if needs_gradient else None
            places = _places(unit, d_weight, plan)
            kept: dict[int, tuple[Tensor, Tensor]] = {}
            # one tensor: many small ones among short-lived tensors would fragment the heap
            references = unit.new_empty(math.ceil(len(weight) / (plan.chunk_size * plan.sub_centres)), len(unit))
            for chunk in chunks(weight, plan):
                cos = cosines(unit, chunk, inverse)
                sample, _ = _nearest(cos[counted], plan.sub_centres)
                sample = _without_target(sample, column[counted] - chunk.first)
                hard += (sample > boundary[counted, None]).sum()
                place = next(places, None)
                step = _kernel(_forward_step, chunk, plan)
                pulled, higher, part = step(
                    head, cos, boundary, column - chunk.first, top, plan.sub_centres, place is not None
                )
                total = total * torch.exp(head.scale * (top - finite(higher))) + part
                top = higher
                if place is not None:
                    torch.mul(pulled, inverse[chunk.rows], out=place)
                    reference = torch.mul(finite(higher), head.scale, out=references[len(kept)])
                    kept[chunk.first] = place, reference
            lse = head.scale * top + total.log()
        if needs_gradient:
            # saved so that autograd rejects a backward pass after the head's buffers have changed
            ctx.save_for_backward(unit, weight, column, cos_y, boundary, inverse, lse, *head.buffers())
            ctx.head, ctx.plan, ctx.kept, ctx.d_weight = head, plan, kept, d_weight
        ctx.mark_non_differentiable(hard)
        return cos_y.clone(), lse, hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, weight, column, cos_y, boundary, inverse, lse, *_ = ctx.saved_tensors
        head: MarginHead = ctx.head
        plan: Plan = ctx.plan
        grad_cos_y, grad_lse, _ = grads
        # a second backward pass, under retain_graph, finds nothing kept: the first one has overwritten it
        kept, d_weight, ctx.kept, ctx.d_weight = ctx.kept, ctx.d_weight, {}, None
        if d_weight is None:
            d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        with torch.autocast(unit.device.type, enabled=False):
            lse = finite(lse)
            force = head.scale * grad_lse
            d_unit = torch.zeros_like(unit)
            forced = unit * force[:, None]
            for chunk in chunks(weight, plan):  # in the order of the forward pass, which `_places` relies on
                if chunk.first in kept:
                    pulled, reference = kept[chunk.first]
                    share = force * torch.exp(reference - lse)
                    scaled = unit * share[:, None]
                else:
                    cos = cosines(unit, chunk, inverse)
                    step = _kernel(_backward_step, chunk, plan)
                    pulled = step(head, cos, inverse[chunk.rows], boundary, column - chunk.first, lse, plan.sub_centres)
                    share, scaled = force, forced
                centres = chunk.weight.to(unit.dtype)
                d_unit.addcmul_(pulled @ centres, share[:, None])
                d_centres = pulled.T @ scaled
                # the loss does not depend on a centre's norm, so its gradient has no component along it
                along = (d_centres * centres).sum(1) * inverse[chunk.rows].square()
                torch.addcmul(d_centres, centres, along[:, None], value=-1, out=d_weight[chunk.rows])
            if len(weight):
                rows, mine = _target_rows(unit, weight, column, plan.sub_centres)
                centres, lengths = _unit_rows(weight, rows, unit.dtype)
                pull = (grad_cos_y * mine)[:, None]
                d_unit.addcmul_(centres, pull)
                d_weight.index_add_(0, rows, (pull / lengths * (unit - cos_y[:, None] * centres)).to(d_weight.dtype))
        return d_unit, d_weight, None, None, None, None, None


def _places(unit: Tensor, d_weight: Tensor | None, plan: Plan) -> Iterator[Tensor]:
    """Memory for the first chunks, (batch, rows) each: in the gradient's own, then in `plan.keep_bytes` more.

    The backward pass goes through the chunks in the same order and writes a chunk's gradient, (rows, dim), after
    reading what was kept of it. The places are max(batch, dim) apart per row, so that nothing is overwritten before
    it is read.
    """
    if d_weight is None or len(d_weight) == 0:
        return
    batch, columns = len(unit), min(plan.chunk_size * plan.sub_centres, len(d_weight))
    widths = [min(columns, len(d_weight) - start) for start in range(0, len(d_weight), columns)]
    inside = 0
    if d_weight.dtype == unit.dtype:
        flat, stride = d_weight.view(-1), max(batch, d_weight.shape[1]) * columns
        while inside < len(widths) and inside * stride + batch * widths[inside] <= len(flat):
            yield flat[inside * stride :][: batch * widths[inside]].view(batch, -1)
            inside += 1
    more = min(plan.keep_bytes // (unit.element_size() * batch * columns), len(widths) - inside)
    storage = unit.new_empty(more, batch, columns)
    for place, width in zip(storage, widths[inside:], strict=False):
        yield place[:, :width]


@dataclass(frozen=True)
class Chunk:
    """Some consecutive classes."""

    first: int
    """The first class."""
    rows: slice
    """Their rows in the weight."""
    weight: Tensor
    """Those rows: (chunk·sub_centres, dim)."""


def chunks(weight: Tensor, plan: Plan) -> Iterator[Chunk]:
    """The classes of `weight` in order, in chunks of `plan.chunk_size`."""
    step = plan.chunk_size * plan.sub_centres
    for start in range(0, len(weight), step):
        rows = slice(start, min(start + step, len(weight)))
        yield Chunk(start // plan.sub_centres, rows, weight[rows])


def cosines(unit: Tensor, chunk: Chunk, inverse: Tensor) -> Tensor:
    """Cosines to a chunk's centres: (batch, chunk·sub_centres)."""
    return (unit @ chunk.weight.to(unit.dtype).T).mul_(inverse[chunk.rows])


def finite(log: Tensor) -> Tensor:
    """`log` with −∞, the logarithm of an empty sum, replaced by 0, so that e^(−∞ − log) is 0 and not NaN."""
    return log.masked_fill(log == -math.inf, 0)


Pullback = Callable[[Tensor], Tensor]


def _negatives(head: MarginHead, cos: Tensor, boundary: Tensor, with_pullback: bool) -> tuple[Tensor, Pullback]:
    """N of the cosines, and the function that maps a gradient of N to one of the cosines."""

    def negative(c: Tensor) -> Tensor:
        return head.negative(c, boundary[:, None])

    if not with_pullback:
        return negative(cos), lambda gradient: gradient
    if torch.compiler.is_compiling():
        n, vjp = torch.func.vjp(negative, cos)[:2]
        return n, lambda gradient: vjp(gradient)[0]
    with torch.enable_grad():
        leaf = cos.detach().requires_grad_()
        n = negative(leaf)
    if n is leaf:  # the head does not change its negatives
        return cos, lambda gradient: gradient
    return n.detach(), lambda gradient: torch.autograd.grad(n, leaf, gradient)[0]


def _without_target(negatives: Tensor, column: Tensor, in_place: bool = False) -> Tensor:
    """`negatives` (batch, chunk) with −∞ at each sample's own class where it is in this chunk."""
    classes = negatives.shape[1]
    if torch.compiler.is_compiling():
        return torch.where(torch.arange(classes, device=column.device) == column[:, None], -math.inf, negatives)
    inside = ((column >= 0) & (column < classes))[:, None]
    place = column.clamp(0, classes - 1)[:, None]
    value = negatives.gather(1, place).masked_fill(inside, -math.inf)
    return negatives.scatter_(1, place, value) if in_place else negatives.scatter(1, place, value)


def _nearest(cos: Tensor, sub_centres: int) -> tuple[Tensor, Pullback]:
    """The largest of each class's cosines, (batch, chunk), and its pullback to all of them."""
    if sub_centres == 1:
        return cos, lambda gradient: gradient
    greatest, which = cos.view(len(cos), -1, sub_centres).max(2, keepdim=True)

    def pullback(gradient: Tensor) -> Tensor:
        spread = gradient.new_zeros(len(cos), gradient.shape[1], sub_centres)
        return spread.scatter(2, which, gradient[:, :, None]).view(cos.shape)

    return greatest.squeeze(2), pullback


def _forward_step(
    head: MarginHead,
    cos: Tensor,
    boundary: Tensor,
    column: Tensor,
    top: Tensor,
    sub_centres: int,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One chunk's part of the sum: (d sum / d cos where `keeps`, new top, sum of e^{s·(N − top)})."""
    nearest, spread = _nearest(cos, sub_centres)
    n, pullback = _negatives(head, nearest, boundary, keeps)
    others = _without_target(n, column, in_place=n is cos)
    top = torch.maximum(top, others.amax(1))
    weights = _exponentials(others, head.scale, head.scale * finite(top))
    part = weights.sum(1)
    if not keeps:
        return part, top, part
    return spread(pullback(weights)), top, part


def _backward_step(
    head: MarginHead,
    cos: Tensor,
    inverse: Tensor,
    boundary: Tensor,
    column: Tensor,
    lse: Tensor,
    sub_centres: int,
) -> Tensor:
    """One chunk's d LSE / d product, divided by s: (batch, chunk·sub_centres)."""
    nearest, spread = _nearest(cos, sub_centres)
    n, pullback = _negatives(head, nearest, boundary, True)
    weights = _exponentials(_without_target(n, column, in_place=n is cos), head.scale, lse)
    return spread(pullback(weights)).mul_(inverse)


def _exponentials(others: Tensor, scale: float, reference: Tensor) -> Tensor:
    """e^{scale·others − reference}, in place of `others` in eager mode: (batch, chunk), (batch,) → (batch, chunk)."""
    if torch.compiler.is_compiling():
        return torch.exp(scale * others - reference[:, None])
    return torch.add(-reference[:, None], others, alpha=scale, out=others).exp_()


_COMPILED: dict[Callable[..., Any], Callable[..., Any]] = {}


def _kernel(step: Callable[..., Any], chunk: Chunk, plan: Plan) -> Callable[..., Any]:
    """`step`, compiled where the plan says so; a smaller last chunk is not worth a compilation of its own."""
    if not plan.compiled or chunk.rows.stop - chunk.rows.start < plan.chunk_size * plan.sub_centres:
        return step
    if step not in _COMPILED:
        # no fullgraph: after too many shapes torch continues uncompiled instead of failing
        _COMPILED[step] = torch.compile(step, dynamic=False)
    return _COMPILED[step]
