"""Triton kernels of the row-wise optimizers: each element of a row with a gradient is read and written once.

A program has a block of `gradient`, (count, width). Its row i is row places[i] of the parameter and its state, or row i
itself where PLACED is false. Where GUARDED and `finite` is false, nothing changes.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def locate(
    places, finite, count, width, PLACED: tl.constexpr, GUARDED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Where a program's elements are in the gradient and in the parameter, which exist, and their rows."""
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = i
    if PLACED:
        row = tl.load(places + i, mask=i < count, other=0)
    inside = (i < count)[:, None] & (column < width)[None, :]
    if GUARDED:
        inside = inside & (tl.load(finite) != 0)
    return i[:, None] * width + column[None, :], row[:, None] * width + column[None, :], inside, row


@triton.jit
def sgd(
    parameter, gradient, buffers, places, finite, count, width, numbers,
    NESTEROV: tl.constexpr, PLACED: tl.constexpr, GUARDED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """torch.optim.SGD's step."""
    (momentum_buffer,) = buffers
    lr, momentum, decay = numbers
    source, place, inside, _ = locate(places, finite, count, width, PLACED, GUARDED, ROWS, BLOCK)
    p = tl.load(parameter + place, mask=inside, other=0.0)
    step = tl.load(gradient + source, mask=inside, other=0.0) + decay * p
    average = momentum * tl.load(momentum_buffer + place, mask=inside, other=0.0) + step
    direction = step + momentum * average if NESTEROV else average
    tl.store(momentum_buffer + place, average, mask=inside)
    tl.store(parameter + place, p - lr * direction, mask=inside)


@triton.jit
def one_minus_exp(x):
    """1 − e^x for x ≤ 0, with the relative accuracy of float32."""
    series = -x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * 0.008333334))))
    return tl.where(x > -0.1, series, 1.0 - tl.exp(x))


@triton.jit
def adamw(
    parameter, gradient, buffers, places, finite, count, width, numbers,
    PLACED: tl.constexpr, GUARDED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """torch.optim.AdamW's step number `steps`, of each row; kept = 1 − lr·decay, new_first = 1 − first, log = ln."""
    exp_avg, exp_avg_sq, steps = buffers
    lr, kept, first, second, new_first, new_second, log_first, log_second, eps = numbers
    source, place, inside, row = locate(places, finite, count, width, PLACED, GUARDED, ROWS, BLOCK)
    g = tl.load(gradient + source, mask=inside, other=0.0)
    step = tl.load(steps + row)[:, None]
    average = first * tl.load(exp_avg + place, mask=inside, other=0.0) + new_first * g
    square = second * tl.load(exp_avg_sq + place, mask=inside, other=0.0) + new_second * g * g
    deviation = tl.sqrt(square / one_minus_exp(step * log_second)) + eps
    p = kept * tl.load(parameter + place, mask=inside, other=0.0)
    p -= lr / one_minus_exp(step * log_first) * average / deviation
    tl.store(exp_avg + place, average, mask=inside)
    tl.store(exp_avg_sq + place, square, mask=inside)
    tl.store(parameter + place, p, mask=inside)
