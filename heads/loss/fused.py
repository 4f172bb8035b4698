"""The sum over all classes on a GPU: three matrix products per chunk of classes, and Triton kernels around them.

Over each chunk the forward pass runs one kernel that normalises the centres, the product, and one kernel per sample
that adds the chunk to the sum and keeps e^{s·N − top}·dN/dc, in the precision of the products, in the memory of the
centres' gradient: all of it where batch ≤ 2·dim in bf16. The backward pass then needs two products and one kernel that
projects the centres' gradient, and for a chunk that was not kept one product and one kernel more.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.heads.base import MarginHead, learned_by
from zoo.heads.loss.chunked import Chunk, Work, chunked_log_sum_exp
from zoo.heads.loss.dense import NORM_FLOOR, Block, Plan
from zoo.heads.loss.precision import multiply

CHUNKS = (4096, 16_384, 65_536, 262_144)  #: The classes per chunk among which a measurement on the card chooses
FIXED_CHUNK = 65_536  #: The classes per chunk where torch's deterministic algorithms are asked for
BLOCK = 4096  #: Cosines that a program holds at a time
TILE = 8192  #: Elements of the centres that a program holds at a time


def unsuitable(head: MarginHead, unit: Tensor, plan: Plan) -> str | None:
    """Why the kernels cannot compute this on a GPU, as the end of a sentence; None where they can."""
    if unit.dtype != torch.float32:
        return f"the centres are in {str(unit.dtype).removeprefix('torch.')}"
    if plan.smooth:
        return "label smoothing needs the sum of all logits"
    if head.pieces() is None:
        return f"the head {head.name} states its negatives as a function alone, not as pieces"
    if isinstance(head.scale, Tensor) or any(one is not head.bias for one in learned_by(head)):
        return f"the head {head.name} learns more than a bias"
    return None


def fused_sum(block: Block, head: MarginHead, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """As `chunked_log_sum_exp`, of either form, with gradients for `unit`, `weight` and the bias of the binary form."""
    return chunked_log_sum_exp(Block(*(given.contiguous() for given in block)), head, plan, _Work)


class _Work(Work):
    """By Triton kernels, in buffers that every chunk uses again."""

    def start(self) -> None:
        from zoo.heads.loss import kernels  # needs Triton

        unit, weight, head, plan = self.unit, self.weight, self.head, self.plan
        self.kernels, self.samples = kernels, (self.column, self.boundary, self.bias)
        self.factor = torch.bfloat16 if plan.precision == "bf16" else torch.float32
        batch, dim = unit.shape
        self.top, self.sums = unit.new_full((batch,), -math.inf), unit.new_zeros(3, batch)
        width = min(plan.chunk_size * plan.sub_centres, len(weight))
        self.scratch = unit.new_empty(width * max(batch, dim))  #: Cosines, (batch, columns), or (columns, dim)
        self.rows = unit.new_empty(width * dim, dtype=self.factor)
        self.scaled, self.share = torch.empty_like(unit, dtype=self.factor), unit.new_empty(0)
        self.left = unit.to(self.factor)
        self.binary, pieces = head.form == "binary", head.pieces()
        assert pieces is not None
        curve = pieces.quadratic, pieces.linear, pieces.constant, pieces.above or 0.0, pieces.below
        coefficients = (*curve, *(pieces.slope or (0.0, 0.0)), pieces.power or 0.0)
        given = pieces.above is None, pieces.slope is not None, pieces.power is not None
        own = isinstance(pieces.linear, Tensor)
        shape = kernels.Shape(pieces.unchanged, own, *given, self.binary, plan.filter_above is not None)
        self.constants = (head.scale, plan.filter_above or 0.0, coefficients)
        block = min(BLOCK, _power_of_two(plan.chunk_size))
        self.flags: dict[str, Any] = {"SHAPE": shape, "SUB_CENTRES": plan.sub_centres, "BLOCK": block}
        self.tile = {"DIM": _power_of_two(dim), "ROWS": max(1, TILE // _power_of_two(dim)), "num_warps": 8}

    def _over_rows(self, rows: int) -> tuple[int]:
        return (math.ceil(rows / self.tile["ROWS"]),)

    def centres(self, chunk: Chunk) -> Tensor:
        rows, dim = chunk.weight.shape
        centres, inverse = self.rows[: rows * dim].view(rows, dim), self.inverse[chunk.rows]
        launch = self.kernels.normalise[self._over_rows(rows)]
        launch(chunk.weight, centres, inverse, rows, dim, NORM_FLOOR, **self.tile)
        return centres

    def _cosines(self, chunk: Chunk, centres: Tensor) -> Tensor:
        """(batch, columns), until the next use of the scratch memory."""
        out = self.scratch[: len(self.unit) * len(centres)].view(len(self.unit), -1)
        return multiply(self.left, centres.T, self.plan.precision, out=out)

    def add(self, chunk: Chunk, centres: Tensor, place: Tensor | None, reference: Tensor) -> None:
        cosines, (total, pull, hard) = self._cosines(chunk, centres), self.sums
        self.kernels.sum_of_a_row[len(self.unit),](
            *(cosines, cosines if place is None else place, self.samples, (self.top, total, pull, reference, hard)),
            *(chunk.first, len(centres) // self.plan.sub_centres, *self.constants),
            **(self.flags if place is not None else {**self.flags, "BLOCK": min(self.flags["BLOCK"], BLOCK // 2)}),
            KEEPS=place is not None,
            num_warps=8 if place is not None else 16,  # measured on an H100
        )

    def result(self) -> tuple[Tensor, Tensor, Tensor | None]:
        total, pull, hard = self.sums
        return total if self.binary else self.top + total.log(), hard[self.plan.counted].sum(), pull

    def pulled(self, chunk: Chunk, centres: Tensor, total: Tensor) -> Tensor:
        cosines, classes = self._cosines(chunk, centres), len(centres) // self.plan.sub_centres
        result = torch.empty_like(cosines, dtype=self.factor)
        launch = self.kernels.pull_of_a_row[len(cosines), math.ceil(classes / self.flags["BLOCK"])]
        operands = cosines, result, self.samples, total, chunk.first, classes, *self.constants
        launch(*operands, **self.flags, num_warps=8)
        return result

    def write(self, chunk: Chunk, centres: Tensor, pulled: Tensor, share: Tensor, out: Tensor) -> None:
        rows, dim = centres.shape
        if share is not self.share:  # chunks that were not kept have one in common
            torch.mul(self.unit, share[:, None], out=self.scaled)
            self.share = share
        gradient = multiply(pulled.T, self.scaled, self.plan.precision, out=self.scratch[: rows * dim].view(rows, dim))
        launch = self.kernels.project[self._over_rows(rows)]
        launch(gradient, chunk.weight, self.inverse[chunk.rows], out, rows, dim, **self.tile)


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def class_bytes(batch: int, dim: int, plan: Plan) -> int:
    """What a class adds to the memory of a chunk."""
    return plan.sub_centres * (4 * max(batch, dim) + (2 if plan.precision == "bf16" else 4) * (dim + batch))


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
    a call there. It is FIXED_CHUNK under torch's deterministic algorithms, as another size adds in another order, and
    under inference_mode, where no gradient can be timed.
    """
    each = class_bytes(len(unit), unit.shape[1], plan)
    largest = max(64, budget // each // 64 * 64)
    sizes = sorted({min(size, largest) for size in CHUNKS})
    if seconds is None and unit.is_cuda and not torch.cuda.is_current_stream_capturing():
        seconds = _seconds_on_the_card
    classes = len(weight) // plan.sub_centres
    fixed = torch.are_deterministic_algorithms_enabled()
    if classes > 64 and not fixed:  # products of rows that are not a multiple of 16 bytes take twice the time
        sizes = sorted({min(size, classes // 64 * 64) for size in sizes})
    key = (unit.device, tuple(unit.shape), classes.bit_length(), plan.precision, plan.sub_centres, largest)
    if isinstance(chunk_size, int):
        size = chunk_size
    elif len(sizes) == 1:
        size = sizes[0]
    elif key in _MEASURED and not fixed:
        size = min(_MEASURED[key], sizes[-1])
    elif fixed or unit.is_inference() or not seconds:
        size = min(FIXED_CHUNK, largest)
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
        _, others, _ = fused_sum(Block(x, w, column, zero, zero), head, plan)
        torch.autograd.grad(others.sum(), (x, w))


def _seconds_on_the_card(call: Callable[[], object]) -> float:
    """As steps run: in a CUDA graph, whose launches take the host no time, or without in several processes."""
    call()  # compiles the kernels
    if not (dist.is_available() and dist.is_initialized()):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            call()
        call = graph.replay
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    for event in (start, end):
        call()
        event.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
