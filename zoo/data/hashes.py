"""Duplicates: exact ones by a hash of the bytes, near ones by a hash of what the picture shows."""

import hashlib
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from zoo.formats.images import Image

Hashes = npt.NDArray[np.uint64]
"""(images, 4): 256 bits per picture."""

NEAR = 50
"""Hashes that differ in at most so many of their 256 bits are near-duplicates.

Chosen by `benchmarks/data.py near`: a larger limit finds more of the copies that were shifted by two pixels, a smaller
one keeps further away from the first false matches; docs/data.md has the table.
"""

_ROWS = 1024


def exact_hash(content: bytes) -> bytes:
    """16 bytes that are the same for the same encoded bytes only."""
    return hashlib.blake2b(content, digest_size=16).digest()


def perceptual_hash(image: Image) -> Hashes:
    """(4,): which of the 16×16 lowest frequencies of the grey picture, the mean left out, lie above their median.

    The classical DCT hash (Zauner, 2010) with four times its bits: aligned faces share their lowest frequencies.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(grey.astype(np.float32))[1:17, 1:17].ravel()
    return np.packbits(waves > np.median(waves)).view(np.uint64)


def near_pairs(a: Hashes, b: Hashes, distance: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """(i, j, bits) for every a[i] and b[j] that differ in at most `distance` bits, by i; in blocks of a few MB."""
    for start in range(0, len(a), _ROWS):
        block = a[start : start + _ROWS]
        for place in range(0, len(b), _ROWS):
            other = b[place : place + _ROWS]
            bits = np.zeros((len(block), len(other)), np.uint16)
            for word in range(4):
                bits += np.bitwise_count(block[:, word, None] ^ other[None, :, word])
            for i, j in np.argwhere(bits <= distance).tolist():
                yield start + i, place + j, int(bits[i, j])
