"""Facts that a loop over the pictures confirms, and leaks that are found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.layouts import contents, face, write_faces, write_lfw
from zoo.data.audit import histogram, overlap, same_rows, summary
from zoo.formats.bins import write_bin
from zoo.formats.images import decode, encode_jpeg, encode_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "people")


def test_a_summary_counts_what_a_loop_counts(folder):
    (folder / "cora" / "double.png").write_bytes((folder / "cora" / "0.png").read_bytes())
    (folder / "ben" / "stolen.png").write_bytes((folder / "anna" / "0.png").read_bytes())
    (folder / "ben" / "wide.png").write_bytes(encode_png(face(7)[:20]))
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    found = summary(str(folder))
    assert (found.images, found.identities, found.pairs, found.index) == (17, 3, None, None)
    assert found.images_per_identity["histogram"] == {"1": 0, "2-3": 1, "4-7": 1, "8-15": 1}
    assert found.images_per_identity["q0"] == 3 and found.images_per_identity["q100"] == 10
    assert found.images_per_identity["q50"] == np.median([3, 4, 10])
    assert found.contents.sizes == {"32×32": 15, "20×32": 1}
    assert len(found.contents.corrupt) == 1 and "ben/zz.png" in found.contents.corrupt[0]
    assert found.contents.duplicates.images_too_many == 2 and found.contents.duplicates.across_identities == 1
    assert found.contents.bytes == sum(len(c) for c in contents(folder) if c != b"damaged")
    facts = json.loads(json.dumps(found.to_json()))
    assert list(facts)[:5] == ["name", "format", "images", "identities", "images_per_identity"]
    assert set(list(facts)[5:]) == {"sizes", "bytes", "corrupt", "duplicates"}
    quick = summary(str(folder), quick=True).to_json()
    assert quick == {key: facts[key] for key in quick} and "sizes" not in quick


def test_a_bin_is_summarised_as_pairs(tmp_path):
    picture = encode_png(face(1))
    write_bin(tmp_path / "a.bin", [picture, picture, encode_png(face(2)), b"damaged"], [True, False])
    found = summary(str(tmp_path / "a.bin"))
    assert (found.images, found.pairs, found.same, found.identities) == (4, 2, 1, None)
    assert len(found.contents.corrupt) == 1 and found.contents.duplicates.across_identities == 0
    assert "identities" not in found.to_json()


def test_a_record_file_tells_where_its_offsets_are_from(shared: Path):
    assert summary(str(shared / "data" / "lfw_rec"), quick=True).to_json()["index"] == "train.idx"


def test_equal_rows_are_grouped_as_a_dictionary_groups_them():
    draws = np.random.default_rng(0)
    for count, kinds in ((0, 1), (1, 1), (2, 1), (5, 1), (40, 9), (300, 1000)):
        hashes = draws.integers(0, kinds, (count, 2)).astype(np.uint64)
        chosen = np.flatnonzero(draws.random(count) < 0.8)
        expected: dict[bytes, list[int]] = {}
        for i in chosen.tolist():
            expected.setdefault(hashes[i].tobytes(), []).append(i)
        assert same_rows(hashes, chosen) == [group for group in expected.values() if len(group) > 1]


def test_the_histogram_counts_every_identity_once():
    counts = np.random.default_rng(0).integers(1, 200, 333).tolist()
    expected = Counter(next(bits for bits in range(9) if count < 2**bits) for count in counts)
    assert list(histogram(counts).values()) == [expected[bits] for bits in range(1, 9)]


@pytest.mark.parametrize("listed", ["pairs.txt", "pairs.csv"])
def test_a_list_of_pairs_is_looked_at_and_compared_as_a_bin_is(listed, folder, tmp_path):
    pairs = str(write_lfw(tmp_path, listed))
    found = summary(pairs)
    assert (found.images, found.pairs, found.same) == (6, 3, 2) and found.contents.sizes == {"32×32": 6}
    assert overlap(str(folder), pairs).matches == []
    (folder / "anna" / "leak.jpg").write_bytes((tmp_path / "lfw" / "Bob_B" / "Bob_B_0001.jpg").read_bytes())
    assert overlap(str(folder), pairs).exact == 3  # it is in two pairs, in one of them twice


CHANGES = {
    "as it is": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "quality 30": lambda image: decode(encode_jpeg(image, 30), "x"),
    "half the size": lambda image: cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.8).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_leak_is_found_whatever_was_done_to_it(tmp_path, change):
    (tmp_path / "train" / "a").mkdir(parents=True)
    for i in range(20):
        (tmp_path / "train" / "a" / f"{i:02d}.png").write_bytes(encode_png(face(i, 112)))
    leaked = encode_png(np.ascontiguousarray(CHANGES[change](face(13, 112))))
    write_bin(tmp_path / "b.bin", [encode_png(face(900, 112)), leaked], [False])
    found = overlap(str(tmp_path / "train"), str(tmp_path / "b.bin"))
    (match,) = found.matches
    assert match.train.endswith("13.png") and match.benchmark.endswith("picture 1")
    assert match.exact == (change == "as it is") == (found.exact == 1) and found.exact + found.near == 1


def test_sets_without_a_common_picture_pass(tmp_path):
    for name, start in (("train", 0), ("bench", 500)):
        (tmp_path / name / "a").mkdir(parents=True)
        for i in range(20):
            (tmp_path / name / "a" / f"{i:02d}.png").write_bytes(encode_png(face(start + i, 112)))
    (tmp_path / "bench" / "a" / "damaged.png").write_bytes(b"damaged")
    found = overlap(str(tmp_path / "train"), str(tmp_path / "bench"))
    assert found.matches == [] and found.benchmark_images == 21 and found.damaged == {"train": 0, "benchmark": 1}
