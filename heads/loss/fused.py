"""The sum over all classes on a GPU: three matrix products per chunk of classes, and Triton kernels around them.

Over each chunk the forward pass runs one kernel that normalises the centres, the product, and one kernel per sample
that adds the chunk to the sum. What it computes anyway for the gradient, e^{s·N − top}·dN/dc in the precision of the
products, is kept in the memory of the centres' gradient, which is not needed before: all of it where batch ≤ 2·dim in
bf16. The backward pass then needs two products and one kernel that projects the centres' gradient. A chunk that was
not kept takes one product and one kernel more.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoo.heads.base import MarginHead
from zoo.heads.loss.chunked import Chunk, Swept, add_target_gradients, chunks, finite, places, refuse_second_derivative
from zoo.heads.loss.dense import NORM_FLOOR, Plan
from zoo.heads.loss.precision import multiply

CHUNKS = (16_384, 65_536, 262_144)
"""The classes per chunk among which a measurement on the card chooses."""
FIXED_CHUNK = 65_536
"""The classes per chunk where torch's deterministic algorithms are asked for."""
BLOCK = 4096
"""Cosines that a program holds at a time."""
TILE = 8192
"""Elements of the centres that a program holds at a time."""


def unsuitable(head: MarginHead, unit: Tensor, plan: Plan) -> str | None:
    """Why the kernels cannot compute this on a GPU, as the end of a sentence; None where they can."""
    if unit.dtype != torch.float32:
        return f"the centres are in {str(unit.dtype).removeprefix('torch.')}"
    if plan.smooth:
        return "label smoothing needs the sum of all logits"
    if head.pieces() is None:
        return f"the head {head.name} states its negatives as a function alone, not as pieces"
    if isinstance(head.scale, Tensor) or any(p.requires_grad for p in _learned(head) if p is not head.bias):
        return f"the head {head.name} learns more than a bias"
    return None


def _learned(head: MarginHead) -> list[Tensor]:
    """The head's parameters, also where a frozen copy holds them as plain tensors."""
    return [value for value in (*head.parameters(), *head.__dict__.values()) if isinstance(value, Tensor)]


def fused_sum(
    unit: Tensor, weight: Tensor, column: Tensor, cos_y: Tensor, boundary: Tensor, head: MarginHead, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """As `chunked_log_sum_exp`: cos_y, the form's sum over the other classes, (batch,) each, and how many are hard.

    With gradients for `unit`, `weight` and the bias of the binary form.
    """
    unit, weight, column, boundary = (t.contiguous() for t in (unit, weight, column, boundary))
    bias = head.bias if isinstance(head.bias, Tensor) else unit.new_full((), head.bias)
    if not (torch.is_grad_enabled() and (unit.requires_grad or weight.requires_grad or bias.requires_grad)):
        swept = _sweep(unit, weight, column, boundary, bias, head, plan, None)
        return cos_y.clone(), swept.sum, swept.hard
    result: tuple[Tensor, Tensor, Tensor] = _FusedSum.apply(unit, weight, column, cos_y, boundary, bias, head, plan)
    return result


class _FusedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        weight: Tensor,
        column: Tensor,
        cos_y: Tensor,
        boundary: Tensor,
        bias: Tensor,
        head: MarginHead,
        plan: Plan,
    ) -> tuple[Tensor, Tensor, Tensor]:
        d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        swept = _sweep(unit, weight, column, boundary, bias, head, plan, d_weight)
        ctx.save_for_backward(unit, weight, column, cos_y, boundary, bias, swept.sum, swept.inverse, swept.pull)
        ctx.head, ctx.plan, ctx.kept, ctx.d_weight = head, plan, swept.kept, d_weight
        ctx.mark_non_differentiable(swept.hard)
        return cos_y.clone(), swept.sum, swept.hard

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        unit, weight, column, cos_y, boundary, bias, others, inverse, pull = ctx.saved_tensors
        head: MarginHead = ctx.head
        plan: Plan = ctx.plan
        grad_cos_y, grad_others, _ = grads
        # a second backward pass, under retain_graph, finds nothing kept: the first one has overwritten it
        kept, d_weight, ctx.kept, ctx.d_weight = ctx.kept, ctx.d_weight, {}, None
        if d_weight is None:
            d_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        work = _Workspace(unit, weight, inverse, head, plan)
        lse, force = finite(others), head.scale * grad_others
        d_unit = torch.zeros_like(unit)
        for chunk in chunks(weight, plan):
            centres = work.normalise(chunk)
            if chunk.first in kept:
                pulled, reference = kept[chunk.first]
                share = force if head.form == "binary" else force * torch.exp((reference - lse).clamp_max(0))
            else:
                pulled, share = work.pulled(chunk, centres, column, boundary, bias, lse), force
            scaled = torch.mul(unit, share[:, None], out=work.scaled)
            d_unit.addcmul_(multiply(pulled, centres, plan.precision), share[:, None])
            gradient = work.scratch[: len(centres) * unit.shape[1]].view(len(centres), -1)
            multiply(pulled.T, scaled, plan.precision, out=gradient)
            work.project(chunk, gradient, d_weight[chunk.rows])
        add_target_gradients(d_unit, d_weight, unit, weight, column, cos_y, grad_cos_y, plan.sub_centres)
        d_bias = -(grad_others * pull).sum() if ctx.needs_input_grad[5] else None
        return d_unit, d_weight, None, None, None, d_bias, None, None


@torch.no_grad()
def _sweep(
    unit: Tensor,
    weight: Tensor,
    column: Tensor,
    boundary: Tensor,
    bias: Tensor,
    head: MarginHead,
    plan: Plan,
    d_weight: Tensor | None,
) -> Swept:
    """The sum over the chunks; keeps what the backward pass needs in the memory of `d_weight`."""
    batch = len(unit)
    inverse = torch.empty(len(weight), device=unit.device)
    work = _Workspace(unit, weight, inverse, head, plan)
    top, total, pull, hard = unit.new_full((batch,), -math.inf), *unit.new_zeros(3, batch)
    spare = places(unit, d_weight, plan, work.factor)
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    references = unit.new_empty(math.ceil(len(weight) / work.columns), batch)
    binary = head.form == "binary"
    for number, chunk in enumerate(chunks(weight, plan)):
        cosines = work.cosines(work.normalise(chunk))
        place = next(spare, None)
        work.kernels.sum_of_a_row[(batch,)](
            *(cosines, cosines if place is None else place, (column, boundary, bias)),
            *((top, total, pull, references[number], hard), chunk.first, cosines.shape[1] // plan.sub_centres),
            *work.constants,
            **work.flags,
            KEEPS=place is not None,
            num_warps=8,
        )
        if place is not None:
            kept[chunk.first] = place, references[number]
    return Swept(total if binary else top + total.log(), hard[plan.counted].sum(), inverse, kept, pull)


class _Workspace:
    """The buffers of one pass over the chunks, and the launches that use them."""

    def __init__(self, unit: Tensor, weight: Tensor, inverse: Tensor, head: MarginHead, plan: Plan) -> None:
        from zoo.heads.loss import kernels  # needs Triton

        self.kernels, self.unit, self.inverse, self.plan = kernels, unit, inverse, plan
        self.factor = torch.bfloat16 if plan.precision == "bf16" else torch.float32
        batch, dim = unit.shape
        self.columns = plan.chunk_size * plan.sub_centres
        width = min(self.columns, len(weight))
        self.scratch = unit.new_empty(width * max(batch, dim))
        """The cosines of a chunk, (batch, columns), or the gradient of its unit vectors, (columns, dim)."""
        self.centres = unit.new_empty(width * dim, dtype=self.factor)
        self.scaled = torch.empty_like(unit, dtype=self.factor)
        self.left = unit.to(self.factor)
        pieces = head.pieces()
        assert pieces is not None
        rise, offset = pieces.slope or (0.0, 0.0)
        coefficients = (
            *(pieces.quadratic, pieces.linear, pieces.constant, pieces.above or 0.0, pieces.below),
            *(rise, offset, pieces.power or 0.0),
        )
        shape = kernels.Shape(
            pieces.unchanged,
            isinstance(pieces.linear, Tensor),
            pieces.above is None,
            pieces.slope is not None,
            pieces.power is not None,
            head.form == "binary",
            plan.filter_above is not None,
        )
        self.constants = (head.scale, plan.filter_above or 0.0, coefficients)
        self.flags: dict[str, Any] = {
            "SHAPE": shape,
            "SUB_CENTRES": plan.sub_centres,
            "BLOCK": min(BLOCK, _power_of_two(plan.chunk_size)),
        }
        self.tile = {"DIM": _power_of_two(dim), "ROWS": max(1, TILE // _power_of_two(dim)), "num_warps": 8}

    def _over_rows(self, rows: int) -> tuple[int]:
        return (math.ceil(rows / self.tile["ROWS"]),)

    def normalise(self, chunk: Chunk) -> Tensor:
        """The unit vectors of a chunk's centres in the precision of the products; notes their inverse norms."""
        rows, dim = chunk.weight.shape
        centres = self.centres[: rows * dim].view(rows, dim)
        inverse = self.inverse[chunk.rows]
        self.kernels.normalise[self._over_rows(rows)](
            chunk.weight, centres, inverse, rows, dim, NORM_FLOOR, **self.tile
        )
        return centres

    def cosines(self, centres: Tensor) -> Tensor:
        """(batch, columns), until the next use of the scratch memory."""
        out = self.scratch[: len(self.unit) * len(centres)].view(len(self.unit), -1)
        return multiply(self.left, centres.T, self.plan.precision, out=out)

    def pulled(
        self, chunk: Chunk, centres: Tensor, column: Tensor, boundary: Tensor, bias: Tensor, lse: Tensor
    ) -> Tensor:
        """d sum / d cos / s of a chunk that was not kept: (batch, columns)."""
        cosines = self.cosines(centres)
        result = torch.empty_like(cosines, dtype=self.factor)
        classes = cosines.shape[1] // self.plan.sub_centres
        grid = (len(self.unit), math.ceil(classes / self.flags["BLOCK"]))
        self.kernels.pull_of_a_row[grid](
            *(cosines, result, (column, boundary, bias), lse, chunk.first, classes, *self.constants),
            **self.flags,
            num_warps=8,
        )
        return result

    def project(self, chunk: Chunk, gradient: Tensor, result: Tensor) -> None:
        """The gradient of a chunk's centres, into `result`, from that of their unit vectors: (rows, dim) each."""
        rows, dim = gradient.shape
        self.kernels.project[self._over_rows(rows)](
            gradient, chunk.weight, self.inverse[chunk.rows], result, rows, dim, **self.tile
        )


def _power_of_two(number: int) -> int:
    """The smallest power of 2 that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def class_bytes(batch: int, dim: int, plan: Plan) -> int:
    """What a class adds to the memory of a chunk."""
    size = 2 if plan.precision == "bf16" else 4
    return plan.sub_centres * (4 * max(batch, dim) + size * (dim + batch))


_MEASURED: dict[tuple[Any, ...], int] = {}


def plan_chunks(
    unit: Tensor,
    weight: Tensor,
    head: MarginHead,
    plan: Plan,
    budget: int,
    chunk_size: int | str | None,
    seconds: Callable[[Callable[[], object]], float] | None = None,
) -> Plan:
    """`plan` with a chunk size whose buffers take at most `budget` bytes, and with what is left of them to keep values.

    Where `chunk_size` is "auto", the fastest of CHUNKS on this card is found once per shape, by `seconds`, which times
    a call there. Under torch's deterministic algorithms, it is FIXED_CHUNK: another size adds in another order.
    """
    each = class_bytes(len(unit), unit.shape[1], plan)
    largest = max(64, budget // each // 64 * 64)
    sizes = sorted({min(size, largest) for size in CHUNKS})
    if seconds is None and unit.is_cuda and not torch.cuda.is_current_stream_capturing():
        seconds = _seconds_on_the_card
    classes = len(weight) // plan.sub_centres
    key = (unit.device, tuple(unit.shape), classes.bit_length(), plan.precision, plan.sub_centres, largest)
    if isinstance(chunk_size, int):
        size = chunk_size
    elif torch.are_deterministic_algorithms_enabled() or seconds is None or classes <= sizes[0]:
        size = min(FIXED_CHUNK, largest)
    elif key in _MEASURED:
        size = _MEASURED[key]
    else:
        column = torch.full((len(unit),), -1, device=unit.device)
        times = {}
        for size in sizes:
            trial = replace(plan, chunk_size=size, keep_bytes=0)
            times[size] = seconds(functools.partial(_trial, unit.detach(), weight.detach(), column, head, trial))
        size = _MEASURED[key] = min(times, key=times.__getitem__)
    return replace(plan, chunk_size=size, keep_bytes=max(0, budget - each * min(size, classes)))


def _trial(unit: Tensor, weight: Tensor, column: Tensor, head: MarginHead, plan: Plan) -> None:
    x, w, zero = unit.clone().requires_grad_(), weight.detach().requires_grad_(), torch.zeros_like(unit[:, 0])
    with torch.enable_grad():
        _, others, _ = fused_sum(x, w, column, zero, zero, head, plan)
        torch.autograd.grad(others.sum(), (x, w))


def _seconds_on_the_card(call: Callable[[], object]) -> float:
    call()  # compiles the kernels
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
