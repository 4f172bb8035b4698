"""Near-duplicates are those of the loop over all pairs, and other people are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data.hashes import NEAR, near_pairs, perceptual_hash
from zoo.formats.images import decode
from zoo.formats.recordio import RecordFile


def test_near_pairs_are_those_of_the_loop_over_all():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2**64, (1500, 4), dtype=np.uint64)
    b = np.concatenate([a[rng.integers(0, 1500, 700)], rng.integers(0, 2**64, (800, 4), dtype=np.uint64)])
    b[:, 0] ^= rng.integers(0, 2**40, 1500, dtype=np.uint64)
    found = sorted(near_pairs(a, b, 30))
    expected = []
    for i in range(1500):
        bits = np.unpackbits((a[i] ^ b).view(np.uint8).reshape(1500, 32), axis=1).sum(axis=1)
        expected += [(i, j, int(bits[j])) for j in np.flatnonzero(bits <= 30).tolist()]
    assert found == expected and len(expected) > 500


def test_real_faces_of_other_people_are_no_near_duplicates(shared: Path):
    folder = shared / "data" / "lfw_rec"
    records = RecordFile(folder)
    hashes = np.stack([perceptual_hash(decode(records.read(i), "x")) for i in range(0, 4462, 9)])
    close = [(i, j) for i, j, _ in near_pairs(hashes, hashes, NEAR) if i < j]
    assert len(close) <= 1  # of 122,760 pairs
