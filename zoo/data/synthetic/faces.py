"""Synthetic faces as a training set, and pairs of them as a benchmark."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from zoo.data.synthetic.person import Draws, Identity, draw_identity
from zoo.data.synthetic.render import render
from zoo.errors import InputError
from zoo.formats.images import Image

SPLITS = {"train": 0, "test": 1}


class SyntheticFaces:
    """Synthetic faces of `identities` people, `images_per_identity` of each, one person after the other.

    An image is drawn on demand. `seed` and `split` ("train" or "test") choose the people: no person is in
    both splits or in the sets of two seeds. `image_size` is the height, or (height, width), in pixels; a width other
    than the height crops or widens the picture at both sides. InputError for fewer than 2 identities, fewer than 1
    image, an unknown split, a seed outside 32 bits or a side outside 16 to 512 pixels.
    """

    def __init__(
        self,
        identities: int = 200,
        images_per_identity: int = 40,
        seed: int = 0,
        split: str = "train",
        image_size: int | tuple[int, int] = 112,
    ) -> None:
        if identities < 2:
            raise InputError(f"expected at least 2 synthetic identities, found {identities}; ask for more")
        if images_per_identity < 1:
            raise InputError(f"expected at least 1 image of each synthetic identity, found {images_per_identity}")
        if split not in SPLITS:
            raise InputError(f"expected the split train or test, found {split!r}")
        if not 0 <= seed < 2**32:
            raise InputError(f"expected a seed from 0 to 4,294,967,295, found {seed}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if not (16 <= height <= 512 and 16 <= width <= 512):
            raise InputError(f"expected synthetic faces of 16 to 512 pixels a side, found {height}×{width}")
        self.name = "synthetic"
        self.num_classes = identities
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.split = split
        self.size = (height, width)
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Image:
        """Image `i` as RGB uint8 (height, width, 3); IndexError outside 0 to len − 1."""
        if not 0 <= i < len(self):
            raise IndexError(f"expected an index from 0 to {len(self) - 1}, found {i}")
        person, shot = divmod(int(i), self.images_per_identity)
        who = identity_of(self.seed, SPLITS[self.split], person)
        # from 1: SeedSequence takes (a, b, c) and (a, b, c, 0) for the same key
        return render(who, Draws(self.seed, SPLITS[self.split], person, shot + 1), *self.size)

    def describe(self) -> str:
        """E.g. "8,000 images of 200 identities, drawn by zoo (not real faces)"."""
        return f"{len(self):,} images of {self.num_classes:,} identities, drawn by zoo (not real faces)"


@functools.lru_cache(maxsize=4096)
def identity_of(seed: int, split: int, person: int) -> Identity:
    """The person of this number; the same in every image."""
    return draw_identity(Draws(seed, split, person))


def pair_plan(pairs: int = 6000, seed: int = 0) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which test images are compared: (identities, index (pairs, 2), same (pairs,)).

    The indices belong to SyntheticFaces(identities, PAIR_IMAGES, seed, "test"). Same and different pairs
    alternate, so that folds of neighbours are balanced; no pair occurs twice, and no two different-person pairs
    show the same two people.
    """
    if pairs < 2:
        raise InputError(f"expected at least 2 synthetic pairs, found {pairs}; ask for more")
    identities = max(pairs // 40, int(np.ceil(np.sqrt(pairs))) + 1)
    same = np.arange(pairs) % 2 == 0
    positives, negatives = int(same.sum()), int((~same).sum())
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 2))))
    first, second = np.triu_indices(PAIR_IMAGES, 1)
    chosen = order.permutation(identities * len(first))[:positives]
    who, which = np.divmod(chosen, len(first))
    index = np.empty((pairs, 2), dtype=np.int64)
    index[same] = np.stack([who * PAIR_IMAGES + first[which], who * PAIR_IMAGES + second[which]], axis=1)
    one, other = np.triu_indices(identities, 1)
    chosen = order.permutation(len(one))[:negatives]
    people = np.stack([one[chosen], other[chosen]], axis=1)
    index[~same] = people * PAIR_IMAGES + order.integers(0, PAIR_IMAGES, (negatives, 2))
    return identities, index, same


PAIR_IMAGES = 10
"""Images of each test identity among the pairs."""


def synthetic_pairs(
    pairs: int = 6000, seed: int = 0, image_size: int | tuple[int, int] = 112
) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Pairs of synthetic faces of people who are in no training set: half of one person, half of two.

    Returns images uint8 RGB (2 · pairs, height, width, 3), those of pair i at 2i and 2i + 1, and same (pairs,) bool.
    Each test image is drawn once however many pairs show it. InputError for fewer than 2 pairs.
    """
    identities, index, same = pair_plan(pairs, seed)
    faces = SyntheticFaces(identities, PAIR_IMAGES, seed, "test", image_size)
    used, place = np.unique(index.reshape(-1), return_inverse=True)
    drawn = np.stack([faces.image(int(i)) for i in used])
    return drawn[place], same
