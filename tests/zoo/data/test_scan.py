"""Every picture looked at once, in order, by however many processes."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from tests.support.layouts import face, write_faces
from zoo.data.audit import NEAR, Look, exact_hash, near_pairs, perceptual_hash, scan
from zoo.data.open import open_people
from zoo.errors import InputError
from zoo.formats.images import decode, encode_png
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
    hashes = np.stack([perceptual_hash(decode(records.content(i), "x")) for i in range(0, 4462, 9)])
    close = [(i, j) for i, j, _ in near_pairs(hashes, hashes, NEAR) if i < j]
    assert len(close) <= 1  # of 122,760 pairs


def plain(looks: list[Look | str]) -> list[object]:
    return [look if isinstance(look, str) else (*astuple(look)[:3], look.near.tolist()) for look in looks]


def test_several_processes_find_what_one_finds_and_what_a_loop_finds(tmp_path):
    folder = write_faces(tmp_path / "people")
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    for i in range(300):
        (folder / "cora" / f"many{i}.png").write_bytes(encode_png(face(i, 8)))
    dataset = open_people(str(folder))
    told: list[int] = []
    one = list(scan(dataset, views=2, workers=1, progress=told.append))
    assert sum(told) == len(one) == len(dataset) == 314
    assert plain(one) == plain(list(scan(dataset, views=2, workers=2)))
    for i in (0, 3, 4, 5, 313):
        look = one[i]
        if i == 4:
            assert isinstance(look, str) and "ben/zz.png" in look
            continue
        image, content = dataset.image(i), dataset.content(i)
        assert isinstance(look, Look) and look.size == image.shape[:2] and look.length == len(content)
        assert look.exact == exact_hash(content)
        views = [perceptual_hash(image), perceptual_hash(np.ascontiguousarray(image[:, ::-1]))]
        assert look.near.tolist() == [view.tolist() for view in views]


def test_no_process_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected --workers of at least 1, found 0"):
        list(scan(open_people(str(write_faces(tmp_path / "people"))), workers=0))
