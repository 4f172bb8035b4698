"""The log-sum-exp over all classes, a chunk of classes at a time: the (batch, classes) matrix is never stored."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads.base import MarginHead
from zoo.heads.loss.dense import NORM_FLOOR, Plan
from zoo.heads.loss.precision import multiply


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
    samples `plan.counted`. The cos_y of a class that is not among these has no gradient here. The head must not
    change until the backward pass, and none of its parameters gets a gradient. Without a gradient to prepare, nothing
    is kept.

    A chunk kept for the backward pass takes three matrix products, any other four. Chunks are kept in the memory of
    the weight's gradient, which is not needed before: all of them where batch ≤ dim.
    """
    if not (torch.is_grad_enabled() and (unit.requires_grad or weight.requires_grad)):
        swept = _sweep(unit, weight, column, boundary, head, plan, None)
        return cos_y.clone(), swept.sum, swept.hard
    result: tuple[Tensor, Tensor, Tensor] = _ChunkedLogSumExp.apply(unit, weight, column, cos_y, boundary, head, plan)
    return result


def target_rows(unit: Tensor, weight: Tensor, column: Tensor, sub_centres: int) -> tuple[Tensor, Tensor]:
    """The row of each sample's nearest own sub-centre, and whether its class is among these; else any valid row."""
    first = column.clamp_min(0) * sub_centres
    if sub_centres == 1:
        return first, column >= 0
    rows = first[:, None] + torch.arange(sub_centres, device=first.device)
    centres, _ = unit_rows(weight, rows.flatten(), unit.dtype)
    cos = (centres.view(*rows.shape, -1) * unit[:, None]).sum(2)
    return first + cos.argmax(1), column >= 0


def unit_rows(weight: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """weight[rows] in `dtype` at norm 1, and the norms, (…, 1)."""
    chosen = weight[rows].to(dtype)
    lengths = torch.linalg.vector_norm(chosen, dim=1, keepdim=True).clamp_min(NORM_FLOOR)
    return chosen / lengths, lengths


@dataclass(frozen=True)
class Swept:
    """What one pass over the chunks leaves."""

    sum: Tensor
    """(batch,): the form's, in the softmax form the log-sum-exp."""
    hard: Tensor
    """(): the number of non-target cosines above the boundary."""
    inverse: Tensor
    """1 / norm of each row of the weight."""
    kept: dict[int, tuple[Tensor, Tensor]]
    """By the first class of a chunk: its d sum / d product, and the logarithm that it is relative to."""
    pull: Tensor | None = None
    """(batch,): the derivative by −bias, in the binary form."""


@torch.no_grad()
def _sweep(
    unit: Tensor,
    weight: Tensor,
    column: Tensor,
    boundary: Tensor,
    head: MarginHead,
    plan: Plan,
    d_weight: Tensor | None,
) -> Swept:
    """The sum over the chunks; keeps values in the memory of `d_weight` where a backward pass will need them."""
    with torch.autocast(unit.device.type, enabled=False):
        inverse = 1 / torch.linalg.vector_norm(weight, dim=1, dtype=unit.dtype).clamp_min(NORM_FLOOR)
        top = unit.new_full((len(unit),), -math.inf)
        total = unit.new_zeros(len(unit))
        counted, hard = plan.counted, unit.new_zeros(())
        spare = places(unit, d_weight, plan, unit.dtype)
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        # one tensor: many small ones among short-lived tensors would fragment the heap
        references = unit.new_empty(math.ceil(len(weight) / (plan.chunk_size * plan.sub_centres)), len(unit))
        for chunk in chunks(weight, plan):
            cos = cosines(unit, chunk, inverse, plan)
            sample, _ = _nearest(cos[counted], plan.sub_centres)
            sample = _without_target(sample, column[counted] - chunk.first)
            hard += (sample > boundary[counted, None]).sum()
            place = next(spare, None)
            step = _kernel(_forward_step, chunk, plan)
            pulled, higher, part = step(head, cos, boundary, column - chunk.first, top, plan, place is not None)
            total = total * torch.exp(head.scale * (top - finite(higher))) + part
            top = higher
            if place is not None:
                torch.mul(pulled, inverse[chunk.rows], out=place)
                reference = torch.mul(finite(higher), head.scale, out=references[len(kept)])
                kept[chunk.first] = place, reference
        return Swept(head.scale * top + total.log(), hard, inverse, kept)


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
        d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        swept = _sweep(unit, weight, column, boundary, head, plan, d_weight)
        ctx.save_for_backward(unit, weight, column, cos_y, boundary, swept.inverse, swept.sum)
        ctx.head, ctx.plan, ctx.kept, ctx.d_weight = head, plan, swept.kept, d_weight
        ctx.mark_non_differentiable(swept.hard)
        return cos_y.clone(), swept.sum, swept.hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        unit, weight, column, cos_y, boundary, inverse, lse = ctx.saved_tensors
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
            for chunk in chunks(weight, plan):  # in the order of the forward pass, which `places` relies on
                if chunk.first in kept:
                    pulled, reference = kept[chunk.first]
                    share = force * torch.exp((reference - lse).clamp_max(0))  # above 0 where no class counted yet
                    scaled = unit * share[:, None]
                else:
                    cos = cosines(unit, chunk, inverse, plan)
                    step = _kernel(_backward_step, chunk, plan)
                    pulled = step(head, cos, inverse[chunk.rows], boundary, column - chunk.first, lse, plan)
                    share, scaled = force, forced
                centres = chunk.weight.to(unit.dtype)
                d_unit.addcmul_(multiply(pulled, centres, plan.precision), share[:, None])
                d_centres = multiply(pulled.T, scaled, plan.precision)
                # the loss does not depend on a centre's norm, so its gradient has no component along it
                along = (d_centres * centres).sum(1) * inverse[chunk.rows].square()
                torch.addcmul(d_centres, centres, along[:, None], value=-1, out=d_weight[chunk.rows])
            add_target_gradients(d_unit, d_weight, unit, weight, column, cos_y, grad_cos_y, plan.sub_centres)
        return d_unit, d_weight, None, None, None, None, None


def refuse_second_derivative() -> None:
    """InputError in a backward pass that is to be differentiated itself."""
    if torch.is_grad_enabled():
        raise InputError(
            "expected a backward pass without create_graph, found one with it: chunked centres have no second"
            " derivative; build the loss with chunk_size=None"
        )


def add_target_gradients(
    d_unit: Tensor,
    d_weight: Tensor,
    unit: Tensor,
    weight: Tensor,
    column: Tensor,
    cos_y: Tensor,
    grad_cos_y: Tensor,
    sub_centres: int,
) -> None:
    """Adds the gradients of cos θ_y, of which `grad_cos_y` is the upstream one, (batch,)."""
    if len(weight):
        rows, mine = target_rows(unit, weight, column, sub_centres)
        centres, lengths = unit_rows(weight, rows, unit.dtype)
        pull = (grad_cos_y * mine)[:, None]
        d_unit.addcmul_(centres, pull)
        d_weight.index_add_(0, rows, (pull / lengths * (unit - cos_y[:, None] * centres)).to(d_weight.dtype))


def places(unit: Tensor, d_weight: Tensor | None, plan: Plan, dtype: torch.dtype) -> Iterator[Tensor]:
    """Memory for the first chunks, (batch, rows) each: in the gradient's own, then in `plan.keep_bytes` more.

    The backward pass goes through the chunks in the same order and writes a chunk's gradient, (rows, dim), after
    reading what was kept of it. The places are as far apart as the gradients of chunks, or farther, so that nothing is
    overwritten before it is read.
    """
    if d_weight is None or len(d_weight) == 0:
        return
    batch, columns, size = len(unit), min(plan.chunk_size * plan.sub_centres, len(d_weight)), dtype.itemsize
    widths = [min(columns, len(d_weight) - start) for start in range(0, len(d_weight), columns)]
    inside = 0
    if d_weight.element_size() >= size:  # else a place might begin where no number of `dtype` may
        flat, stride = d_weight.view(-1).view(dtype), columns * max(batch, d_weight[0].nbytes // size)
        while inside < len(widths) and inside * stride + batch * widths[inside] <= len(flat):
            yield flat[inside * stride :][: batch * widths[inside]].view(batch, -1)
            inside += 1
    more = min(plan.keep_bytes // (size * batch * columns), len(widths) - inside)
    storage = unit.new_empty(more, batch * columns, dtype=dtype)
    for place, width in zip(storage, widths[inside:], strict=False):
        yield place[: batch * width].view(batch, width)


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


def cosines(unit: Tensor, chunk: Chunk, inverse: Tensor, plan: Plan) -> Tensor:
    """Cosines to a chunk's centres: (batch, chunk·sub_centres)."""
    return multiply(unit, chunk.weight.to(unit.dtype).T, plan.precision).mul_(inverse[chunk.rows])


def finite(log: Tensor) -> Tensor:
    """`log` with −∞, the logarithm of an empty sum, replaced by 0, so that e^(−∞ − log) is 0 and not NaN."""
    return log.masked_fill(log == -math.inf, 0)


Pullback = Callable[[Tensor], Tensor]


def _negatives(
    head: MarginHead, cos: Tensor, boundary: Tensor, plan: Plan, with_pullback: bool
) -> tuple[Tensor, Pullback]:
    """N of the cosines, −∞ where it is left out, and the function that maps a gradient of N to one of the cosines."""

    def negative(c: Tensor) -> Tensor:
        n = head.negative(c, boundary[:, None])
        return n if plan.filter_above is None else torch.where(c > plan.filter_above, -math.inf, n)

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
    plan: Plan,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One chunk's part of the sum: (d sum / d cos where `keeps`, new top, sum of e^{s·(N − top)})."""
    nearest, spread = _nearest(cos, plan.sub_centres)
    n, pullback = _negatives(head, nearest, boundary, plan, keeps)
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
    plan: Plan,
) -> Tensor:
    """One chunk's d LSE / d product, divided by s: (batch, chunk·sub_centres)."""
    nearest, spread = _nearest(cos, plan.sub_centres)
    n, pullback = _negatives(head, nearest, boundary, plan, True)
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
