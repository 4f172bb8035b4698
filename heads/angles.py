"""Adding a margin to an angle given by its cosine, without acos, and modulating hard negatives."""

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor

SIN_SQUARED_FLOOR = 1e-7  #: Least sin²θ: costs up to 1.5e-4 in cos(θ + m) at θ = 0, limits the gradient to about 3,000
COS_CEILING = 1 - 1e-7  #: Upper bound of |cos θ| before acos, whose gradient at 1 is infinite
Fallback = Literal["paper", "none", "easy"]
"""What replaces cos(θ + m) where it no longer decreases with θ (θ > π − m).

"paper": cos θ − m·sin m, as in ArcFace's own code. "none": nothing, as in insightface's torch code.
"easy": the margin applies only where cos θ > 0, as in MagFace's code.
"""


def angle(cos: Tensor) -> Tensor:
    """θ in radians for cos = cos θ, with a finite gradient everywhere."""
    return cos.clamp(-COS_CEILING, COS_CEILING).acos()


def add_angle(cos: Tensor, margin: float | Tensor) -> Tensor:
    """cos(θ + margin) for cos = cos θ, (batch,); margin in radians, one number or (batch,)."""
    sin = (1 - cos * cos).clamp_min(SIN_SQUARED_FLOOR).sqrt()
    if isinstance(margin, Tensor):
        return cos * margin.cos() - sin * margin.sin()
    return cos * math.cos(margin) - sin * math.sin(margin)


def add_angle_or_fall_back(cos: Tensor, margin: float | Tensor, fallback: Fallback) -> Tensor:
    """cos(θ + margin) with the named fallback, (batch,); margin in radians, one number or (batch,)."""
    shifted = add_angle(cos, margin)
    if fallback == "none":
        return shifted
    if fallback == "easy":
        return torch.where(cos > 0, shifted, cos)
    if isinstance(margin, Tensor):
        return torch.where(cos > -margin.cos(), shifted, cos - margin * margin.sin())
    return torch.where(cos > -math.cos(margin), shifted, cos - margin * math.sin(margin))


def where_hard(cos: Tensor, boundary: Tensor, quadratic: float, linear: Tensor | float, constant: float) -> Tensor:
    """quadratic·cos² + linear·cos + constant where cos > boundary, (batch, 1), else cos, which alone has a gradient."""
    if torch.compiler.is_compiling():  # fused, the plain expression is the fastest
        return torch.where(cos > boundary, (quadratic * cos + linear) * cos + constant, cos)
    factor = linear.to(cos) if isinstance(linear, Tensor) else cos.new_full((), linear)
    return cast(Tensor, _WhereHard.apply(cos, boundary, quadratic, factor, constant))


class _WhereHard(torch.autograd.Function):
    """In torch's eager mode `where` costs as much as twenty additions; here the mask is arithmetic on one buffer."""

    @staticmethod
    def forward(ctx: Any, cos: Tensor, boundary: Tensor, quadratic: float, linear: Tensor, constant: float) -> Tensor:
        # 1 where cos > boundary, else 0: the difference of two floats is positive exactly where one is greater
        hard = (cos - boundary).clamp_min_(0).sign_()
        ctx.save_for_backward(cos, hard, linear)
        ctx.quadratic = quadratic
        change = torch.add(linear - 1, cos, alpha=quadratic).mul_(cos)
        if constant:
            change.add_(constant)
        return torch.addcmul(cos, change, hard, out=change)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, hard, linear = ctx.saved_tensors
        if torch.is_grad_enabled():  # under create_graph, whose graph an output buffer cannot be part of
            return grads[0] * (1 + (linear - 1 + 2 * ctx.quadratic * cos) * hard), None, None, None, None
        slope = torch.add(linear - 1, cos, alpha=2 * ctx.quadratic).mul_(hard)
        return torch.addcmul(grads[0], slope, grads[0], out=slope), None, None, None, None
