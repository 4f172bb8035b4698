"""Random numbers that depend on a key alone, for a whole batch at once and the same on every device."""

import math

import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  #: 2⁶⁴ over the golden ratio, as a signed number; so are the factors below
AHEAD = 1024  #: Numbers that a stream makes at once: a GPU takes longer to be told what to do than to do it


class Draws:
    """A stream of random numbers for each image of a batch: word n of a key is SplitMix64's, of key + n · golden.

    `parts`, integers and tensors (batch,) of them, are the key. Source: Steele et al., OOPSLA 2014, SplittableRandom.
    """

    def __init__(self, *parts: int | Tensor) -> None:
        device = next(part.device for part in parts if isinstance(part, Tensor))
        self.key = torch.zeros((), dtype=torch.int64, device=device)
        for part in parts:
            self.key = stirred(self.key ^ part)
        self.made, self.ahead = 0, torch.empty(len(self.key), 0, device=device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(batch, *shape) from [low, high)."""
        count = math.prod(shape)
        if self.ahead.shape[1] < count:
            number = torch.arange(1, max(count, AHEAD) + 1, device=self.key.device) + self.made
            words = stirred(self.key[:, None] + number * GOLDEN)
            self.ahead = torch.cat([self.ahead, (words >> 40 & (1 << 24) - 1).float() * 2.0**-24], 1)
            self.made += len(number)
        share, self.ahead = self.ahead[:, :count], self.ahead[:, count:]
        return low + (high - low) * share.reshape(-1, *shape)

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        """(batch, *shape), nearly normal: the sum of four uniform ones, so that none is beyond 3.5 deviations."""
        return (self.uniform(4, *shape).sum(1) - 2) * (spread * 3**0.5)


def stirred(word: Tensor) -> Tensor:
    """SplitMix64's output function, in int64, whose products wrap."""
    word = word + GOLDEN
    word = (word ^ (word >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    word = (word ^ (word >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return word ^ (word >> 31 & (1 << 33) - 1)
