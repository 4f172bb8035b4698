"""Long runs are killed at random points, cut at every byte and started twice, and lose nothing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model
from zoo.cli import main
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.recognition.gallery import Gallery
from zoo.recognition.journal import Journal

PICTURES = 120


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


def start(work: Path, words: list[str]) -> subprocess.Popen[str]:
    # batches of two pictures, so that there is a point between any two records to be killed at
    program = (
        "import sys; import zoo.recognition.batch as bulk; from zoo.cli import main\n"
        "original = bulk.embed_pictures\n"
        "def small(*args, **options): return original(*args, **{**options, 'batch_size': 2})\n"
        "bulk.embed_pictures = small\n"
        "import zoo.recognition.gallery as gallery; gallery.embed_pictures = small\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_at(process: subprocess.Popen[str], watched: Path, size: int) -> bool:
    """Kills the process with SIGKILL once `watched` has `size` bytes; whether it was still running."""
    while process.poll() is None:
        if watched.exists() and watched.stat().st_size >= size:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.0005)
    return False


def records(journal: Path) -> int:
    """How many whole records a journal holds, without changing it."""
    copy = journal.with_name("copy")
    copy.write_bytes(journal.read_bytes())
    content = copy.read_bytes()
    from zoo.recognition.journal import HEAD, MAGIC

    at, count = len(MAGIC), -1  # the first is the identity
    while at + HEAD.size <= len(content):
        text, blob, _ = HEAD.unpack_from(content, at)
        at += HEAD.size + text + blob
        count += at <= len(content)
    copy.unlink()
    return max(count, 0)


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
    process = start(work, embed_words(out))
    told, error = process.communicate()
    assert process.returncode == 0, error
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
    process = start(work, words)
    _, error = process.communicate()
    assert process.returncode == 0, error
    again = Gallery.open(out)
    assert again.names() == whole.names() and again.photos.tolist() == whole.photos.tolist()
    np.testing.assert_allclose(again.templates, whole.templates, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"gallery"}
    out.unlink()


@pytest.fixture(scope="module")
def uninterrupted(work: Path) -> tuple[dict[str, np.ndarray], Gallery, int]:
    """What runs give that nobody kills, and the size of a journal just before it is deleted."""
    process = start(work, embed_words(work / "whole.npz"))
    _, error = process.communicate()
    assert process.returncode == 0, error
    index = ["index", "people", "-o", "whole", "--model", "model.onnx", "--aligned"]
    process = start(work, index)
    _, error = process.communicate()
    assert process.returncode == 0, error
    with np.load(work / "whole.npz") as table:
        arrays = dict(table)
    assert len(arrays["path"]) == PICTURES - 1 and len(arrays["failed"]) == 1
    return arrays, Gallery.open(work / "whole"), PICTURES * 400  # bytes: of some 500 a record


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


def test_a_killed_align_goes_on_with_whole_crops_only(shared: Path, tmp_path: Path) -> None:
    detector = str(shared / "models" / "face_detection_yunet_2026may.onnx")
    words = ["align", str(shared / "photos"), str(tmp_path / "crops"), "--detector", detector, "--json"]
    process = start(tmp_path, words)
    kill_at(process, tmp_path / "crops" / "align.jsonl", 900)
    process = start(tmp_path, words)
    told, error = process.communicate()
    assert process.returncode == 0, error
    assert json.loads(told) == {"photos": 14, "crops": 14, "skipped": 0}
    crops = sorted(
        path for path in (tmp_path / "crops").rglob("*") if path.suffix == ".png" or path.name.startswith(".")
    )
    assert len(crops) == 14
    from zoo.formats.images import read_image

    assert all(read_image(crop).shape == (112, 112, 3) for crop in crops)
    lines = [json.loads(line) for line in (tmp_path / "crops" / "align.jsonl").read_text().splitlines()]
    assert {line["photo"] for line in lines[1:]} == {path.name for path in (shared / "photos").glob("*.jpg")}


def test_the_align_log_says_why_a_photo_was_skipped_and_other_options_are_refused(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos" / "ada"
    photos.mkdir(parents=True)
    (photos / "wall.png").write_bytes(encode_png(np.full((90, 90, 3), 128, np.uint8)))
    (photos / "text.jpg").write_text("no picture")
    (photos / "ada.jpg").write_bytes((shared / "photos" / "person_a_1.jpg").read_bytes())
    (photos / "notes.txt").write_text("not looked at")
    detector = ("--detector", str(shared / "models" / "face_detection_yunet_2026may.onnx"))
    words = ["align", str(tmp_path / "photos"), str(tmp_path / "crops"), *detector]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"photos": 3, "crops": 1, "skipped": 2}
    lines = [json.loads(line) for line in (tmp_path / "crops" / "align.jsonl").read_text().splitlines()[1:]]
    reasons = {line["photo"]: line["reason"] for line in lines}
    assert "found none" in reasons["ada/wall.png"] and "no picture" not in reasons["ada/ada.jpg"]
    assert "text.jpg" in reasons["ada/text.jpg"] and reasons["ada/ada.jpg"] == ""
    assert (tmp_path / "crops" / "ada" / "ada.jpg.png").is_file()
    assert main([*words, "--size", "224"]) == 2
    assert "other options" in capsys.readouterr().err
    assert main(["align", str(tmp_path / "photos"), str(tmp_path / "photos" / "crops"), *detector]) == 2


def test_a_journal_cut_at_any_byte_keeps_every_record_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = []
    with Journal(path, {"model": "m"}) as journal:
        for number in range(4):
            journal.append({"number": number}, bytes(range(number * 3)))
            ends.append(path.stat().st_size)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        with Journal(path, {"model": "m"}) as journal:
            expected = sum(end <= length for end in ends)
            assert [facts["number"] for facts, _ in journal.records()] == list(range(expected))
            journal.append({"number": 99}, b"after")
            assert list(journal.records())[-1] == ({"number": 99}, b"after")


def test_a_flipped_bit_ends_a_journal_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {}) as journal:
        for number in range(3):
            journal.append({"number": number}, b"\0" * 8)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with Journal(path, {}) as journal:
        assert [facts["number"] for facts, _ in journal.records()] == [0, 1]


def test_a_journal_of_other_options_of_another_process_or_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, {"model": "a", "flip": True}), pytest.raises(InputError, match="another process"):
        Journal(path, {"model": "a", "flip": True})
    with pytest.raises(InputError, match="another model"):
        Journal(path, {"model": "b", "flip": True})
    with Journal(path, {"model": "a", "flip": True}):
        pass
    path.write_text("a text that is longer than the magic")
    with pytest.raises(InputError, match="found another file"):
        Journal(path, {})
    assert path.read_text().startswith("a text")


def test_a_picture_that_changed_between_two_runs_is_embedded_again(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.recognition.batch import embed_pictures, found_in, identity
    from zoo.recognition.verifier import FaceVerifier

    verifier = FaceVerifier(work / "model.onnx", aligned=True)
    picture = tmp_path / "picture.png"
    picture.write_bytes(encode_png(crop(1)))
    with Journal(tmp_path / "journal", identity(verifier)) as journal:
        assert embed_pictures(verifier, [picture], journal) == 1
        assert embed_pictures(verifier, [picture], journal) == 0
        picture.write_bytes(encode_png(crop(2)))
        assert embed_pictures(verifier, [picture], journal) == 1
        ((found, _),) = found_in(journal, 48)
        np.testing.assert_array_equal(found.embeddings[0], verifier.embed(crop(2)))


def test_embed_writes_parquet_with_the_same_rows(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    words = ["embed", str(work / "people" / "p00"), "--model", str(work / "model.onnx"), "--aligned"]
    for name in ("t.npz", "t.parquet"):
        assert main([*words, "-o", str(tmp_path / name)]) == 0
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    with np.load(tmp_path / "t.npz") as table:
        good = [row for row in rows if row["reason"] is None]
        assert [row["path"] for row in good] == table["path"].tolist()
        np.testing.assert_array_equal(np.array([row["embedding"] for row in good], np.float32), table["embedding"])
        assert [row["path"] for row in rows if row["reason"]] == table["failed"].tolist()
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "t.npz")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "t.csv")]) == 2
