"""The Triton kernels of the class centres: everything that is not one of the three matrix products.

`negative` is inlined into those over cosines, with the numbers of a head's `Pieces` as its coefficients, so that N and
its derivative are computed in registers. The largest of a class's SUB_CENTRES columns of cosines counts.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from typing import NamedTuple

import triton
import triton.language as tl


class Shape(NamedTuple):
    """Which of the coefficients of `Pieces` matter: each shape is compiled once."""

    unchanged: bool  #: N = c
    linear_is_tensor: bool
    at_boundary: bool  #: The threshold is each sample's boundary
    has_slope: bool
    has_power: bool
    binary: bool  #: The form
    filters: bool  #: Non-target cosines above `filter_above` are left out


@triton.jit
def normalise(weight, unit, inverse, rows, dim, floor, ROWS: tl.constexpr, DIM: tl.constexpr):
    """unit = weight / ‖weight‖ in the precision of `unit`, inverse = 1 / ‖weight‖: (rows, dim), (rows,)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)
    inside = (row < rows)[:, None] & (column < dim)[None, :]
    place = row.to(tl.int64)[:, None] * dim + column[None, :]
    w = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    reciprocal = 1.0 / tl.maximum(tl.sqrt(tl.sum(w * w, 1)), floor)
    tl.store(unit + place, (w * reciprocal[:, None]).to(unit.dtype.element_ty), mask=inside)
    tl.store(inverse + row, reciprocal, mask=row < rows)


@triton.jit
def project(gradient, weight, inverse, result, rows, dim, ROWS: tl.constexpr, DIM: tl.constexpr):
    """The gradient of the weight from that of its unit vectors: result = (g − ŵ·⟨g, ŵ⟩) / ‖w‖, (rows, dim)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)
    inside = (row < rows)[:, None] & (column < dim)[None, :]
    place = row.to(tl.int64)[:, None] * dim + column[None, :]
    reciprocal = tl.load(inverse + row, mask=row < rows, other=0.0)[:, None]
    unit = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32) * reciprocal
    g = tl.load(gradient + place, mask=inside, other=0.0)
    along = tl.sum(g * unit, 1)[:, None]
    tl.store(result + place, ((g - along * unit) * reciprocal).to(result.dtype.element_ty), mask=inside)


@triton.jit
def negative(c, boundary, coefficients, SHAPE: tl.constexpr):
    """N of the cosines c and dN/dc, of which `Pieces` is the definition."""
    quadratic, factor, constant, threshold, below, rise, offset, power = coefficients
    n = c
    slope = tl.full(c.shape, 1.0, tl.float32)
    if not SHAPE.unchanged:
        if SHAPE.linear_is_tensor:
            factor = tl.load(factor).to(tl.float32)
        if SHAPE.at_boundary:
            threshold = boundary
        if SHAPE.has_power:
            logarithm = tl.log(tl.maximum(0.5 * c + 0.5, 1e-30))
            n = quadratic * tl.exp(power * logarithm) + factor * c + constant
            slope = quadratic * 0.5 * power * tl.exp((power - 1.0) * logarithm) + factor
        else:
            n = c * (quadratic * c + factor) + constant
            slope = 2.0 * quadratic * c + factor
        if SHAPE.has_slope:
            slope = rise * c + offset
        n = tl.where(c > threshold, n, below * c)
        slope = tl.where(c > threshold, slope, below)
    return n, slope


@triton.jit
def nearest(cosines, j, inside, SUB_CENTRES: tl.constexpr):
    """The largest cosine of each class j and which of its sub-centres has it, the first of equal ones."""
    best = tl.load(cosines + j * SUB_CENTRES, mask=inside, other=0.0)
    which = tl.zeros(j.shape, tl.int32)
    for k in tl.static_range(1, SUB_CENTRES):
        c = tl.load(cosines + j * SUB_CENTRES + k, mask=inside, other=0.0)
        which = tl.where(c > best, k, which)
        best = tl.where(c > best, c, best)
    return best, which


@triton.jit
def spread(place, j, inside, which, value, SUB_CENTRES: tl.constexpr):
    """Stores `value` at the sub-centre that counts and 0 at the others of its class."""
    for k in tl.static_range(SUB_CENTRES):
        mine = tl.where(which == k, value, 0.0)
        tl.store(place + j * SUB_CENTRES + k, mine.to(place.dtype.element_ty), mask=inside)


@triton.jit
def softplus(x):
    """log(1 + e^x) with the relative accuracy of float32 where it is small."""
    e = tl.exp(-tl.abs(x))
    series = e * (1.0 - e * (0.5 - e * (0.33333333 - e * 0.25)))
    return tl.maximum(x, 0.0) + tl.where(e < 0.03, series, tl.log(1.0 + e))


@triton.jit
def sum_of_a_row(
    cosines, kept, samples, sums, first, classes, scale, filter_above, coefficients,
    SHAPE: tl.constexpr, SUB_CENTRES: tl.constexpr, KEEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds a chunk of classes to one sample's sum, in two passes over its cosines: the greatest logit, the sum.

    softmax: top = max s·N and total = Σ e^{s·N − top} so far. binary: total = Σ softplus(s·N − bias) and pull its
    derivative by −bias. kept = e^{s·N − top}·dN/dc, or σ(s·N − bias)·dN/dc, where KEEPS; the top that it is relative
    to goes to `reference`. hard counts the cosines above the boundary. A sample's own class is left out of all.
    """
    column, boundary, bias = samples
    top, total, pull, reference, hard = sums
    row = tl.program_id(0)
    own = tl.load(column + row) - first
    b = tl.load(boundary + row)
    cosines += row.to(tl.int64) * classes * SUB_CENTRES
    kept += row.to(tl.int64) * classes * SUB_CENTRES
    count = tl.zeros((BLOCK,), tl.int32)
    greatest = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, classes, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = (j < classes) & (j != own)
        c, which = nearest(cosines, j, j < classes, SUB_CENTRES)
        count += tl.where(inside & (c > b), 1, 0)
        if not SHAPE.binary:
            n, slope = negative(c, b, coefficients, SHAPE)
            if SHAPE.filters:
                inside = inside & ((c <= filter_above) | (c != c))
            greatest = tl.maximum(greatest, tl.where(inside, scale * n, float("-inf")))
    tl.store(hard + row, tl.load(hard + row) + tl.sum(count, 0))
    before = tl.load(top + row)
    highest = tl.maximum(before, tl.max(greatest, 0))
    base = tl.where(highest == float("-inf"), 0.0, highest)
    if SHAPE.binary:
        base = tl.load(bias).to(tl.float32)
    part = tl.zeros((BLOCK,), tl.float32)
    pulls = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, classes, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = (j < classes) & (j != own)
        c, which = nearest(cosines, j, j < classes, SUB_CENTRES)
        n, slope = negative(c, b, coefficients, SHAPE)
        if SHAPE.filters:
            inside = inside & ((c <= filter_above) | (c != c))
        if SHAPE.binary:
            weight = tl.where(inside, tl.sigmoid(scale * n - base), 0.0)
            part += tl.where(inside, softplus(scale * n - base), 0.0)
            pulls += weight
        else:
            weight = tl.where(inside, tl.exp(scale * n - base), 0.0)
            part += weight
        if KEEPS:
            spread(kept, j, j < classes, which, weight * slope, SUB_CENTRES)
    if SHAPE.binary:
        tl.store(total + row, tl.load(total + row) + tl.sum(part, 0))
        tl.store(pull + row, tl.load(pull + row) + tl.sum(pulls, 0))
    else:
        tl.store(total + row, tl.load(total + row) * tl.exp(before - base) + tl.sum(part, 0))
        tl.store(top + row, highest)
        tl.store(reference + row, base)


@triton.jit
def pull_of_a_row(
    cosines, result, samples, lse, first, classes, scale, filter_above, coefficients,
    SHAPE: tl.constexpr, SUB_CENTRES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """result = e^{s·N − lse}·dN/dc, or σ(s·N − bias)·dN/dc, for a block of one sample's cosines, computed again."""
    column, boundary, bias = samples
    row = tl.program_id(0)
    own = tl.load(column + row) - first
    b = tl.load(boundary + row)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (j < classes) & (j != own)
    at = row.to(tl.int64) * classes * SUB_CENTRES
    c, which = nearest(cosines + at, j, j < classes, SUB_CENTRES)
    n, slope = negative(c, b, coefficients, SHAPE)
    if SHAPE.filters:
        inside = inside & ((c <= filter_above) | (c != c))
    weight = (
        tl.sigmoid(scale * n - tl.load(bias).to(tl.float32)) if SHAPE.binary else tl.exp(scale * n - tl.load(lse + row))
    )
    spread(result + at, j, j < classes, which, tl.where(inside, weight * slope, 0.0), SUB_CENTRES)
