"""Random numbers that depend on a key alone, for a whole batch at once and the same on every device."""

import math

import torch
from torch import Tensor


class Draws:
    """A stream of random numbers for each image of a batch: word n of a key is SplitMix64's, of key + n · golden.

    Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """

    def __init__(self, *parts: int | Tensor) -> None:
        """`parts`: integers, and tensors (batch,) of integers, which together are the key of each stream."""
        key: Tensor = torch.zeros((), dtype=torch.int64)
        for part in parts:
            key = stirred((key if not isinstance(part, Tensor) else key.to(part.device)) ^ part)
        self.key, self.used, self.ahead = key, 0, torch.empty(len(key), 0, device=key.device)

    def uniform(self, *shape: int, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """(batch, *shape) from [low, high)."""
        count = math.prod(shape)
        if self.ahead.shape[1] < count:
            start = self.used + self.ahead.shape[1] + 1
            number = torch.arange(start, self.used + max(count, AHEAD) + 1, device=self.key.device)
            words = stirred(self.key[:, None] + number * GOLDEN)
            self.ahead = torch.cat([self.ahead, (words >> 40 & (1 << 24) - 1).float() * 2.0**-24], 1)
        share, self.ahead = self.ahead[:, :count], self.ahead[:, count:]
        self.used += count
        return low + (high - low) * share.reshape(-1, *shape)

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        """(batch, *shape), nearly normal: the sum of four uniform ones, so that none is beyond 3.5 deviations."""
        return (self.uniform(4, *shape).sum(1) - 2) * (spread * 3**0.5)

    def chance(self, probability: float) -> Tensor:
        """(batch,) bool, true with this probability."""
        return self.uniform() < probability


AHEAD = 1024
"""Numbers that a stream makes at once: on a GPU, starting a computation takes longer than most of them."""
GOLDEN = -0x61C8864680B583EB
"""2⁶⁴ over the golden ratio, as a signed number; so are the factors below."""


def stirred(word: Tensor) -> Tensor:
    """SplitMix64's output function, in int64, whose products wrap."""
    word = word + GOLDEN
    word = (word ^ (word >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    word = (word ^ (word >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return word ^ (word >> 31 & (1 << 33) - 1)
