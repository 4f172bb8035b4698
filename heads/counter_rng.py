"""Random numbers that are a pure function of (seed, step, index): the same on every rank, without a host sync."""

import math

import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as int64
MIX_1 = -0x40A7B892E31B1A47
MIX_2 = -0x6B2FB644ECCEEE15


def random_bits(seed: int, step: Tensor, count: int, first: int = 0) -> Tensor:
    """(count,): 64 random bits as int64 an index from `first` on, by SplitMix64's finaliser; `step`: int64 scalar."""
    index = torch.arange(first, first + count, device=step.device, dtype=torch.int64)
    return _mix(_mix(_mix(step * GOLDEN + seed) + index * GOLDEN) + GOLDEN)


def uniform(seed: int, step: Tensor, count: int, first: int = 0) -> Tensor:
    """A float32 number strictly between 0 and 1 for each index from `first` on: (count,)."""
    bits = _shift(random_bits(seed, step, count, first), 41)  # 23 bits: with the half added, exact in fp32
    return (bits.to(torch.float32) + 0.5) / 2**23


def standard_normal(seed: int, step: Tensor, count: int, first: int = 0) -> Tensor:
    """A float32 sample of the standard normal distribution for each index from `first` on: (count,)."""
    return math.sqrt(2) * torch.erfinv(2 * uniform(seed, step, count, first) - 1)


def _shift(bits: Tensor, places: int) -> Tensor:
    """A logical shift to the right; torch's `>>` copies the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift(bits, 30)) * MIX_1
    bits = (bits ^ _shift(bits, 27)) * MIX_2
    return bits ^ _shift(bits, 31)
