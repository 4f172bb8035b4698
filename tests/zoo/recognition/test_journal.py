"""Journals: cut at every byte, opened twice, and behind `zoo embed` and `zoo index` killed at random points."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.support.killing import finish, kill_at, start
from tests.support.toy_faces import crop, write_model
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.recognition.gallery import Gallery
from zoo.recognition.journal import Journal

PICTURES = 120


def test_a_journal_cut_at_any_byte_keeps_every_record_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = []
    with Journal(path, {"model": "m"}) as journal:
        for number in range(4):
            journal.append({"number": number, "text": "é" * number})
            ends.append(path.stat().st_size)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with Journal(path, {"model": "m"}) as journal:
            expected = sum(end <= length for end in ends)
            assert [record["number"] for record in journal.records()] == list(range(expected))
            journal.append({"number": 99})
            assert list(journal.records())[-1] == {"number": 99}


def test_a_flipped_bit_ends_a_journal_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {}) as journal:
        for number in range(3):
            journal.append({"number": number, "text": "abcdefgh"})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"d")] ^= 1
    path.write_bytes(bytes(content))
    with Journal(path, {}) as journal:
        assert [record["number"] for record in journal.records()] == [0, 1]


def test_a_journal_of_other_options_of_another_process_or_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"model": "a", "flip": True}) as journal:
        journal.append({"number": 0})
        with pytest.raises(InputError, match="another process"):
            Journal(path, {"model": "a", "flip": True})
    with pytest.raises(InputError, match="another model"):
        Journal(path, {"model": "b", "flip": True})
    with Journal(path, {"model": "a", "flip": True}):
        pass
    path.write_text("a text that is longer than the head")
    with pytest.raises(InputError, match="found another file"):
        Journal(path, {})
    assert path.read_text().startswith("a text")


def test_a_journal_without_records_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", {}):
        assert (tmp_path / "journal").is_file()
    assert not (tmp_path / "journal").exists()
    with Journal(tmp_path / "journal", {}) as journal:
        journal.append({"number": 1})
    assert (tmp_path / "journal").is_file()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and small crops of 40 people, one of them damaged."""
    folder = tmp_path_factory.mktemp("kill")
    write_model(folder / "model.onnx")
    for number in range(PICTURES):
        person = folder / "people" / f"p{number % 40:02}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{number}.png").write_bytes(encode_png(crop(number % 40, (16, 16), noise=number)))
    (folder / "people" / "p00" / "0.png").write_bytes(b"damaged")
    return folder


def records(journal: Path) -> int:
    """How many whole records a journal holds beside its first line, without changing it."""
    return max(journal.read_bytes().count(b"\n") - 1, 0)


def embed_words(out: Path) -> list[str]:
    return ["embed", "people", "-o", str(out), "--model", "model.onnx", "--aligned", "--json"]


def check_embed(work: Path, tmp_path: Path, rng: random.Random, whole: dict[str, np.ndarray], size: int) -> None:
    out = tmp_path / "killed.npz"
    partial = tmp_path / "killed.npz.partial"
    done = 0
    for _ in range(rng.randint(1, 2)):
        killed = kill_at(start(work, embed_words(out)), partial, rng.randint(0, size))
        assert killed, "the run ended before it could be killed: nothing was tested"
        done = records(partial) if partial.exists() else 0
    told = finish(start(work, embed_words(out)))
    assert json.loads(told)["embedded_now"] == PICTURES - done
    with np.load(out) as table:
        assert set(table) == set(whole)
        for name in whole:
            np.testing.assert_array_equal(table[name], whole[name], err_msg=name)
    assert not partial.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"killed.npz"}
    out.unlink()


def check_index(work: Path, tmp_path: Path, rng: random.Random, whole: Gallery, size: int) -> None:
    out = tmp_path / "gallery"
    words = ["index", "people", "-o", str(out), "--model", "model.onnx", "--aligned", "--json"]
    assert kill_at(start(work, words), tmp_path / "gallery.partial", rng.randint(0, size))
    finish(start(work, words))
    again = Gallery.open(out)
    assert again.names() == whole.names() and again.photos.tolist() == whole.photos.tolist()
    np.testing.assert_allclose(again.templates, whole.templates, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"gallery"}
    out.unlink()


@pytest.fixture(scope="module")
def uninterrupted(work: Path) -> tuple[dict[str, np.ndarray], Gallery, int]:
    """What runs give that nobody kills, and the size of a journal just before it is deleted."""
    finish(start(work, embed_words(work / "whole.npz")))
    finish(start(work, ["index", "people", "-o", "whole", "--model", "model.onnx", "--aligned"]))
    with np.load(work / "whole.npz") as table:
        arrays = dict(table)
    assert len(arrays["path"]) == PICTURES - 1 and len(arrays["failed"]) == 1
    return arrays, Gallery.open(work / "whole"), PICTURES * 400  # bytes: of some 600 a record


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_embed_goes_on_and_ends_with_the_same_table(
    work: Path, tmp_path: Path, uninterrupted: tuple[dict[str, np.ndarray], Gallery, int], seed: int
) -> None:
    check_embed(work, tmp_path, random.Random(seed), uninterrupted[0], uninterrupted[2])


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_index_goes_on_and_ends_with_the_same_gallery(
    work: Path, tmp_path: Path, uninterrupted: tuple[dict[str, np.ndarray], Gallery, int], seed: int
) -> None:
    check_index(work, tmp_path, random.Random(seed), uninterrupted[1], uninterrupted[2])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_kills_lose_nothing(
    work: Path, tmp_path: Path, uninterrupted: tuple[dict[str, np.ndarray], Gallery, int]
) -> None:
    for seed in range(100, 150):
        check_embed(work, tmp_path, random.Random(seed), uninterrupted[0], uninterrupted[2])
        check_index(work, tmp_path, random.Random(seed), uninterrupted[1], uninterrupted[2])
