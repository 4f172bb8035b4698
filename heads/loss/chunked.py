"""The log-sum-exp over all classes, a chunk of classes at a time: the (batch, classes) matrix is never stored."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads.base import MarginHead
from zoo.heads.loss.dense import NORM_FLOOR, Block, Plan
from zoo.heads.loss.precision import multiply


def _target_rows(unit: Tensor, weight: Tensor, column: Tensor, sub_centres: int) -> tuple[Tensor, Tensor]:
    """The row of each sample's nearest own sub-centre, and whether its class is among these; else any valid row."""
    first = column.clamp_min(0) * sub_centres
    if sub_centres == 1:
        return first, column >= 0
    rows = first[:, None] + torch.arange(sub_centres, device=first.device)
    centres, _ = _unit_rows(weight, rows.flatten(), unit.dtype)
    return first + (centres.view(*rows.shape, -1) * unit[:, None]).sum(2).argmax(1), column >= 0


def _unit_rows(weight: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """weight[rows] in `dtype` at norm 1, and the norms, (…, 1)."""
    chosen = weight[rows].to(dtype)
    lengths = torch.linalg.vector_norm(chosen, dim=1, keepdim=True).clamp_min(NORM_FLOOR)
    return chosen / lengths, lengths


class Chunk(NamedTuple):
    """Some consecutive classes."""

    first: int  #: The first class
    rows: slice  #: Their rows in the weight
    weight: Tensor  #: Those rows: (chunk·sub_centres, dim)


def _chunks(weight: Tensor, plan: Plan) -> Iterator[Chunk]:
    """The classes of `weight` in order, in chunks of `plan.chunk_size`."""
    step = plan.chunk_size * plan.sub_centres
    for start in range(0, len(weight), step):
        rows = slice(start, min(start + step, len(weight)))
        yield Chunk(start // plan.sub_centres, rows, weight[rows])


Operands = tuple[Tensor, ...]  #: Unit vectors, centres, columns, boundaries, bias


class Work:
    """One pass over the chunks, here in plain torch for the softmax form: the sums, and what a backward pass needs."""

    factor: torch.dtype  #: Of what is kept

    def __init__(self, operands: Operands, head: MarginHead, plan: Plan, inverse: Tensor | None = None) -> None:
        """`inverse`: 1 / norm of each row of the centres, from the pass before."""
        self.unit, self.weight, self.column, self.boundary, self.bias = operands
        self.head, self.plan, self.first = head, plan, inverse is None
        self.inverse = self.unit.new_empty(len(self.weight)) if inverse is None else inverse
        self.start()

    def start(self) -> None:
        """Makes what the pass needs."""
        unit = self.unit
        self.factor = unit.dtype
        if self.first:
            self.inverse = 1 / torch.linalg.vector_norm(self.weight, dim=1, dtype=unit.dtype).clamp_min(NORM_FLOOR)
        self.top, self.total = unit.new_full((len(unit),), -math.inf), unit.new_zeros(len(unit))
        self.hard = unit.new_zeros(())

    def centres(self, chunk: Chunk) -> Tensor:
        """What the products take of a chunk's centres: (rows, dim)."""
        return chunk.weight.to(self.unit.dtype)

    def add(self, chunk: Chunk, centres: Tensor, place: Tensor | None, reference: Tensor) -> None:
        """Adds a chunk to the sums; keeps in `place` its d sum / d product / s, relative to e^reference, (batch,)."""
        head, plan, counted = self.head, self.plan, self.plan.counted
        cos, column = self._cosines(chunk, centres), self.column - chunk.first
        sample, _ = _nearest(cos[counted], plan.sub_centres)
        self.hard += (_without_target(sample, column[counted]) > self.boundary[counted, None]).sum()
        step = _kernel(_forward_step, chunk, plan)
        pulled, higher, part = step(head, cos, self.boundary, column, self.top, plan, place is not None)
        self.total = self.total * torch.exp(head.scale * (self.top - _finite(higher))) + part
        self.top = higher
        if place is not None:
            torch.mul(pulled, self.inverse[chunk.rows], out=place)
            torch.mul(_finite(higher), head.scale, out=reference)

    def result(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The form's sum, (batch,), the number of hard negatives, and the sum's derivative by −bias, (batch,)."""
        return self.head.scale * self.top + self.total.log(), self.hard, None

    def pulled(self, chunk: Chunk, centres: Tensor, total: Tensor) -> Tensor:
        """d sum / d product / s of a chunk that was not kept: (batch, rows)."""
        cos, column = self._cosines(chunk, centres), self.column - chunk.first
        step = _kernel(_backward_step, chunk, self.plan)
        return cast(Tensor, step(self.head, cos, self.inverse[chunk.rows], self.boundary, column, total, self.plan))

    def write(self, chunk: Chunk, centres: Tensor, pulled: Tensor, share: Tensor, out: Tensor) -> None:
        """The gradient of a chunk's centres into `out`, (rows, dim); `pulled` counts `share`, (batch,)."""
        gradient = multiply(pulled.T, self.unit * share[:, None], self.plan.precision)
        # the loss does not depend on a centre's norm, so its gradient has no component along it
        along = (gradient * centres).sum(1) * self.inverse[chunk.rows].square()
        torch.addcmul(gradient, centres, along[:, None], value=-1, out=out)

    def _cosines(self, chunk: Chunk, centres: Tensor) -> Tensor:
        """To a chunk's centres: (batch, chunk·sub_centres)."""
        return multiply(self.unit, centres.T, self.plan.precision).mul_(self.inverse[chunk.rows])


def chunked_log_sum_exp(
    block: Block, head: MarginHead, plan: Plan, work: type[Work] = Work
) -> tuple[Tensor, Tensor, Tensor]:
    """The target cosine and the log-sum-exp of the others, with gradients for `unit` and `weight`. Equals

        cos = (unit @ normalize(weight).T).view(batch, classes, sub_centres).amax(2)
        cos_y = cos.gather(1, column)                                  # 0 where column is −1
        lse = (s * head.negative(cos, boundary)).scatter(1, column, -inf).logsumexp(1)

    and returns cos_y and lse, both (batch,), and the number of non-target cosines above the boundary among the
    samples `plan.counted`. The cos_y of a class that is not among these has no gradient here. The head must not
    change until the backward pass, and none of its parameters gets a gradient. Without a gradient to prepare, nothing
    is kept. Another `work` may compute the binary form's sum too, with a gradient for its bias.

    A chunk kept for the backward pass takes three matrix products, any other four. Chunks are kept in the memory of
    the weight's gradient, which is not needed before: all of them where batch ≤ dim.
    """
    unit, weight, column, cos_y, boundary = block
    bias = head.bias if isinstance(head.bias, Tensor) else unit.new_full((), head.bias)
    operands = unit, weight, column, boundary, bias
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in operands)):
        swept = work(operands, head, plan)
        _sweep(swept, None)
        total, hard, _ = swept.result()
        return cos_y.clone(), total, hard
    return cast(tuple[Tensor, Tensor, Tensor], _ChunkedSum.apply(work, head, plan, cos_y, *operands))


Kept = dict[int, tuple[Tensor, Tensor]]  #: By a chunk's first class: d sum / d product / s, and its reference


@torch.no_grad()
def _sweep(work: Work, d_weight: Tensor | None) -> Kept:
    """Takes `work` over all chunks; what is kept for a backward pass lies in the memory of `d_weight`."""
    kept: Kept = {}
    unit, weight, plan = work.unit, work.weight, work.plan
    with torch.autocast(unit.device.type, enabled=False):
        spare = _places(unit, d_weight, plan, work.factor)
        # one tensor: many small ones among short-lived tensors would fragment the heap
        references = unit.new_zeros(math.ceil(len(weight) / (plan.chunk_size * plan.sub_centres)), len(unit))
        for chunk, reference in zip(_chunks(weight, plan), references, strict=True):
            place = next(spare, None)
            work.add(chunk, work.centres(chunk), place, reference)
            if place is not None:
                kept[chunk.first] = place, reference
    return kept


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, work: type[Work], head: MarginHead, plan: Plan, cos_y: Tensor, *operands: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.work, ctx.head, ctx.plan = work, head, plan
        ctx.d_weight = torch.empty_like(operands[1], memory_format=torch.contiguous_format)
        swept = work(operands, head, plan)
        ctx.kept = _sweep(swept, ctx.d_weight)
        total, hard, pull = swept.result()
        ctx.save_for_backward(cos_y, swept.inverse, total, pull, *operands)
        ctx.mark_non_differentiable(hard)
        return cos_y.clone(), total, hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            found = "found one with it: chunked centres have no second derivative; build the loss with chunk_size=None"
            raise InputError(f"expected a backward pass without create_graph, {found}")
        cos_y, inverse, total, pull, *operands = ctx.saved_tensors
        unit, weight, column = operands[:3]
        head: MarginHead = ctx.head
        plan: Plan = ctx.plan
        grad_cos_y, grad_total, _ = grads
        # a second backward pass, under retain_graph, finds nothing kept: the first one has overwritten it
        kept, d_weight, ctx.kept, ctx.d_weight = ctx.kept, ctx.d_weight, {}, None
        if d_weight is None:
            d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        with torch.autocast(unit.device.type, enabled=False):
            work: Work = ctx.work(operands, head, plan, inverse)
            total, force, d_unit = _finite(total), head.scale * grad_total, torch.zeros_like(unit)
            for chunk in _chunks(weight, plan):  # in the order of the forward pass, which `_places` relies on
                centres, share = work.centres(chunk), force
                if chunk.first not in kept:
                    pulled = work.pulled(chunk, centres, total)
                else:
                    pulled, reference = kept[chunk.first]
                    if head.form == "softmax":  # the reference is above the sum where no class counted yet
                        share = force * torch.exp((reference - total).clamp_max(0))
                d_unit.addcmul_(multiply(pulled, centres, plan.precision), share[:, None])
                work.write(chunk, centres, pulled, share, d_weight[chunk.rows])
            if len(weight):
                rows, mine = _target_rows(unit, weight, column, plan.sub_centres)
                own, lengths = _unit_rows(weight, rows, unit.dtype)
                toward = (grad_cos_y * mine)[:, None]
                d_unit.addcmul_(own, toward)
                d_weight.index_add_(0, rows, (toward / lengths * (unit - cos_y[:, None] * own)).to(d_weight.dtype))
        d_bias = None if pull is None or not ctx.needs_input_grad[8] else -(grad_total * pull).sum()
        return None, None, None, None, d_unit, d_weight, None, None, d_bias


def _places(unit: Tensor, d_weight: Tensor | None, plan: Plan, dtype: torch.dtype) -> Iterator[Tensor]:
    """Memory for the first chunks, (batch, rows) each: in the gradient's own, then in `plan.keep_bytes` more.

    The backward pass goes through the chunks in the same order and writes a chunk's gradient, (rows, dim), after
    reading what was kept of it. The places are at least as far apart as the gradients: nothing is overwritten unread.
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
    for place, width in zip(unit.new_empty(more, batch * columns, dtype=dtype), widths[inside:], strict=False):
        yield place[: batch * width].view(batch, width)


def _finite(log: Tensor) -> Tensor:
    """`log` with −∞, the logarithm of an empty sum, replaced by 0, so that e^(−∞ − log) is 0 and not NaN."""
    return log.masked_fill(log == -math.inf, 0)


Pullback = Callable[[Tensor], Tensor]


def _negatives(head: MarginHead, cos: Tensor, boundary: Tensor, plan: Plan, keeps: bool) -> tuple[Tensor, Pullback]:
    """N of the cosines, −∞ where it is left out, and the function that maps a gradient of N to one of the cosines."""

    def negative(c: Tensor) -> Tensor:
        n = head.negative(c, boundary[:, None])
        return n if plan.filter_above is None else torch.where(c > plan.filter_above, -math.inf, n)

    if not keeps:
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
    head: MarginHead, cos: Tensor, boundary: Tensor, column: Tensor, top: Tensor, plan: Plan, keeps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """One chunk's part of the sum: (d sum / d cos where `keeps`, new top, sum of e^{s·(N − top)})."""
    nearest, spread = _nearest(cos, plan.sub_centres)
    n, pullback = _negatives(head, nearest, boundary, plan, keeps)
    others = _without_target(n, column, in_place=n is cos)
    top = torch.maximum(top, others.amax(1))
    weights = _exponentials(others, head.scale, head.scale * _finite(top))
    part = weights.sum(1)
    if not keeps:
        return part, top, part
    return spread(pullback(weights)), top, part


def _backward_step(
    head: MarginHead, cos: Tensor, inverse: Tensor, boundary: Tensor, column: Tensor, lse: Tensor, plan: Plan
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


@functools.cache
def _compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(step, dynamic=False)  # no fullgraph: after too many shapes torch goes on uncompiled


def _kernel(step: Callable[..., Any], chunk: Chunk, plan: Plan) -> Callable[..., Any]:
    """`step`, compiled where the plan says so; a smaller last chunk is not worth a compilation of its own."""
    full = chunk.rows.stop - chunk.rows.start == plan.chunk_size * plan.sub_centres
    return _compiled(step) if plan.compiled and full else step
