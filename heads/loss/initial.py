"""Where class centres start: a function of the seed alone, however the classes are split over ranks."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.heads.counter_rng import random_bits

Start = Literal["normal", "unit"]  #: Normal numbers of standard deviation 0.01, or these divided by each centre's norm

INITIAL_STD = 0.01
BLOCK = 4096


def initial_centres(classes: range, shape: tuple[int, ...], seed: int, start: Start = "normal") -> Tensor:
    """The centres of `classes`, (classes, *shape), on the CPU; those of a class do not depend on the others."""
    centres = torch.empty(len(classes), *shape, device="cpu")
    for first_of_block in range(classes.start // BLOCK * BLOCK, classes.stop, BLOCK):
        generator = torch.Generator("cpu").manual_seed(_block_seed(seed, first_of_block // BLOCK))
        block = torch.empty(BLOCK, *shape, device="cpu").normal_(std=INITIAL_STD, generator=generator)
        first, last = max(first_of_block, classes.start), min(first_of_block + BLOCK, classes.stop)
        centres[first - classes.start : last - classes.start] = block[first - first_of_block : last - first_of_block]
    return F.normalize(centres, dim=-1) if start == "unit" else centres


def _block_seed(seed: int, block: int) -> int:
    """A seed of 32 bits: torch's CPU generator ignores the others."""
    return int(random_bits(seed, torch.tensor(block, device="cpu"), 1)) & 0xFFFFFFFF
