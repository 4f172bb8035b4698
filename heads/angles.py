"""Adding a margin to an angle whose cosine is known, without acos, and what to do beyond π."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

SIN_SQUARED_FLOOR = 1e-7
"""sin²θ is kept above this: costs up to 1.5e-4 in cos(θ + m) at θ = 0, bounds the gradient by some 3,000."""

COS_CEILING = 1 - 1e-7
"""|cos θ| is clamped to this before acos, whose gradient at 1 is infinite."""

Fallback = Literal["paper", "none", "easy"]
"""What replaces cos(θ + m) where it would no longer fall with θ (θ > π − m).

"paper": cos θ − m·sin m there, as the authors of ArcFace do. "none": nothing, as in insightface's torch code.
"easy": the margin only where cos θ > 0, as in MagFace's code.
"""


def angle(cos: Tensor) -> Tensor:
    """θ in radians for cos = cos θ, with a finite gradient everywhere."""
    return cos.clamp(-COS_CEILING, COS_CEILING).acos()


def add_angle(cos: Tensor, margin: float | Tensor) -> Tensor:
    """cos(θ + margin) for cos = cos θ; margin in radians, a number or one a sample. Shape (batch,)."""
    sin = (1 - cos * cos).clamp_min(SIN_SQUARED_FLOOR).sqrt()
    if isinstance(margin, Tensor):
        return cos * margin.cos() - sin * margin.sin()
    return cos * math.cos(margin) - sin * math.sin(margin)


def add_angle_or_fall_back(cos: Tensor, margin: float | Tensor, fallback: Fallback) -> Tensor:
    """cos(θ + margin) with the fallback that is named; margin in radians. Shape (batch,)."""
    shifted = add_angle(cos, margin)
    if fallback == "none":
        return shifted
    if fallback == "easy":
        return torch.where(cos > 0, shifted, cos)
    if isinstance(margin, Tensor):
        return torch.where(cos > -margin.cos(), shifted, cos - margin * margin.sin())
    return torch.where(cos > -math.cos(margin), shifted, cos - margin * math.sin(margin))
