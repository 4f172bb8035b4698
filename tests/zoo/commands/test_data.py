"""`zoo data`: round trips byte for byte, facts that a loop over the pictures confirms, leaks that are found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.records import identity_payloads, write
from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.audit import histogram
from zoo.data.hashes import NEAR, near_pairs, perceptual_hash
from zoo.errors import InputError
from zoo.formats.bins import read_bin, write_bin
from zoo.formats.images import decode, encode_jpeg, encode_png, read_image
from zoo.formats.recordio import RecordFile


def face(seed: int, size: int = 32) -> np.ndarray:
    """Something smooth, as faces are."""
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), size / 16), None, 0, 255, cv2.NORM_MINMAX)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (name, count) in enumerate({"anna": 3, "ben": 1, "cora": 9}.items()):
        (tmp_path / "people" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "people" / name / f"{i}.png").write_bytes(encode_png(face(100 * number + i)))
    return tmp_path / "people"


def zoo(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["data", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.png")) + sorted(folder.rglob("*.jpg"))]


def test_packing_keeps_every_byte_and_extracting_gives_them_back(folder, tmp_path, capsys):
    assert zoo(capsys, "pack", folder, tmp_path / "rec")[0] == 0
    records = RecordFile(tmp_path / "rec")
    assert records.labels.tolist() == [0] * 3 + [1] + [2] * 9
    assert [records.read(i) for i in range(13)] == contents(folder)
    assert (tmp_path / "rec" / "property").read_text() == "3,32,32"
    assert zoo(capsys, "extract", tmp_path / "rec", tmp_path / "again")[0] == 0
    assert contents(tmp_path / "again") == contents(folder)
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["000000", "000001", "000002"]
    assert zoo(capsys, "pack", tmp_path / "again", tmp_path / "rec2")[0] == 0
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "rec2" / name).read_bytes() == (tmp_path / "rec" / name).read_bytes()


def test_a_packed_file_is_that_of_the_description(folder, tmp_path, capsys):
    zoo(capsys, "pack", folder, tmp_path / "rec")
    (tmp_path / "hand").mkdir()
    people = [contents(folder / name) for name in ("anna", "ben", "cora")]
    write(tmp_path / "hand", identity_payloads(people))
    for name in ("train.rec", "train.idx"):
        assert (tmp_path / "rec" / name).read_bytes() == (tmp_path / "hand" / name).read_bytes()


def test_mxnets_own_files_come_back_byte_for_byte(shared: Path, tmp_path, capsys):
    original = shared / "data" / "lfw_rec"
    assert zoo(capsys, "extract", original, tmp_path / "faces")[0] == 0
    status, out, _ = zoo(capsys, "pack", tmp_path / "faces", tmp_path / "rec")
    assert status == 0 and "4,462 images" in out
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "rec" / name).read_bytes() == (original / name).read_bytes()


def test_a_bin_comes_back_byte_for_byte(tmp_path, capsys):
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(6)], [True, False, True])
    assert zoo(capsys, "extract", tmp_path / "a.bin", tmp_path / "pairs")[0] == 0
    status, out, _ = zoo(
        capsys, "pack", tmp_path / "pairs", tmp_path / "b.bin", "--pairs", tmp_path / "pairs/pairs.csv"
    )
    assert status == 0 and "3 pairs, 2 of one person and 1 of two" in out
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_lfws_own_list_over_a_folder_becomes_a_bin(tmp_path, capsys):
    for name in ("Ann_A", "Bob_B"):
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for i in (1, 2):
            (tmp_path / "lfw" / name / f"{name}_{i:04d}.jpg").write_bytes(encode_jpeg(face(len(name) + i)))
    (tmp_path / "pairs.txt").write_text("1\t1\nAnn_A\t1\t2\nAnn_A\t2\tBob_B\t1\n")
    assert zoo(capsys, "pack", tmp_path / "lfw", tmp_path / "x.bin", "--pairs", tmp_path / "pairs.txt")[0] == 0
    images, same = read_bin(tmp_path / "x.bin")
    assert same.tolist() == [True, False] and images[1] == images[2] and images[0] != images[1]


@pytest.fixture(params=["pairs.txt", "pairs.csv"])
def pairs_list(request, tmp_path) -> Path:
    """Three pairs of two people; in the second, both pictures are the same."""
    for name in ("Ann_A", "Bob_B"):
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for i in (1, 2):
            (tmp_path / "lfw" / name / f"{name}_{i:04d}.jpg").write_bytes(encode_jpeg(face(10 * ord(name[0]) + i)))
    rows = [("Ann_A", 1, "Ann_A", 2), ("Bob_B", 1, "Bob_B", 1), ("Ann_A", 2, "Bob_B", 1)]
    if request.param == "pairs.txt":
        lines = [f"{a}\t{i}\t{j}" if a == b else f"{a}\t{i}\t{b}\t{j}" for a, i, b, j in rows]
        text = "\n".join(["1\t2", *lines])
    else:
        lines = [f"lfw/{a}/{a}_{i:04d}.jpg,lfw/{b}/{b}_{j:04d}.jpg,{int(a == b)}" for a, i, b, j in rows]
        text = "\n".join(["a,b,same", *lines])
    (tmp_path / request.param).write_text(text)
    return tmp_path / request.param


def test_a_list_of_pairs_is_looked_at_and_compared_as_a_bin_is(pairs_list, folder, tmp_path, capsys):
    facts = json.loads(zoo(capsys, "info", pairs_list, "--json")[1])
    assert (facts["images"], facts["pairs"], facts["same"]) == (6, 3, 2) and facts["sizes"] == {"32×32": 6}
    assert zoo(capsys, "check", folder, "--against", pairs_list)[0] == 0
    (folder / "anna" / "leak.jpg").write_bytes((tmp_path / "lfw" / "Bob_B" / "Bob_B_0001.jpg").read_bytes())
    status, out, _ = zoo(capsys, "check", folder, "--against", pairs_list, "--json")
    assert status == 1 and json.loads(out)["exact"] == 3  # it is in two pairs, in one of them twice


def test_pairs_are_no_training_set(pairs_list, tmp_path, capsys):
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(2)], [True])
    for benchmark in (pairs_list, tmp_path / "a.bin"):
        with pytest.raises(InputError, match="zoo evaluate MODEL --data"):
            open_dataset(str(benchmark))
        status, _, err = zoo(capsys, "pack", benchmark, tmp_path / "rec")
        assert status == 2 and "a benchmark of pairs" in err
    status, _, err = zoo(capsys, "extract", pairs_list, tmp_path / "out")
    assert status == 2 and "a benchmark of pairs" in err


def test_a_list_whose_people_are_elsewhere_says_where_they_belong(tmp_path, capsys):
    (tmp_path / "pairs.txt").write_text("10\t300\nAbel_Pacheco\t1\t4\n")
    status, _, err = zoo(capsys, "info", tmp_path / "pairs.txt")
    assert status == 2 and "'Abel_Pacheco'; put the pictures beside the list" in err


def test_pictures_of_several_sizes_need_a_size(folder, tmp_path, capsys):
    (folder / "anna" / "9.png").write_bytes(encode_png(face(9, 48)))
    status, _, err = zoo(capsys, "pack", folder, tmp_path / "rec")
    assert status == 2 and "9.png with 48×48; pass --image-size" in err and not (tmp_path / "rec").exists()
    assert zoo(capsys, "pack", folder, tmp_path / "rec", "--image-size", 32)[0] == 0
    records = RecordFile(tmp_path / "rec")
    assert {decode(records.read(i), "x").shape for i in range(len(records))} == {(32, 32, 3)}
    assert records.read(0) == contents(folder)[0]


@pytest.mark.parametrize("action", ["pack", "extract"])
def test_a_damaged_picture_stops_or_is_left_out_and_told(folder, tmp_path, capsys, action):
    (folder / "ben" / "0.png").write_bytes(b"damaged")
    status, _, err = zoo(capsys, action, folder, tmp_path / "out")
    assert status == 2 and "ben/0.png" in err
    assert [p.name for p in tmp_path.iterdir()] == ["people"], "something half-written was left"
    status, _, err = zoo(capsys, action, folder, tmp_path / "out", "--on-corrupt", "skip")
    assert status == 0 and "left out 1 damaged" in err and "ben/0.png" in err
    left = open_dataset(str(tmp_path / "out"))
    assert left.labels.tolist() == [0] * 3 + [1] * 9


def test_what_exists_is_never_written_over(folder, tmp_path, capsys):
    (tmp_path / "rec").mkdir()
    for action in ("pack", "extract"):
        status, _, err = zoo(capsys, action, folder, tmp_path / "rec")
        assert status == 2 and "expected no file or folder" in err
    status, _, err = zoo(capsys, "pack", folder, tmp_path / "absent" / "rec")
    assert status == 2 and "create it first" in err


def test_the_names_of_identities_never_name_a_file(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encode_png(face(1)))
    (tmp_path / "list.tsv").write_text("a.png\t../../evil\na.png\t/etc\n")
    assert zoo(capsys, "extract", tmp_path / "list.tsv", tmp_path / "out")[0] == 0
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert found == ["000000/00000000.png", "000001/00000001.png"]
    assert "../../evil" in (tmp_path / "out" / "identities.csv").read_text()


def test_info_counts_what_a_loop_counts(folder, capsys):
    (folder / "cora" / "double.png").write_bytes((folder / "cora" / "0.png").read_bytes())
    (folder / "ben" / "stolen.png").write_bytes((folder / "anna" / "0.png").read_bytes())
    (folder / "ben" / "wide.png").write_bytes(encode_png(face(7)[:20]))
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    status, out, _ = zoo(capsys, "info", folder, "--json")
    facts = json.loads(out)
    counts = [3, 4, 10]
    assert status == 0 and facts["images"] == 17 and facts["identities"] == 3
    assert facts["images_per_identity"]["histogram"] == {"1": 0, "2-3": 1, "4-7": 1, "8-15": 1}
    assert facts["images_per_identity"]["q50"] == np.median(counts)
    assert facts["sizes"] == {"32×32": 15, "20×32": 1}
    assert len(facts["corrupt"]) == 1 and "ben/zz.png" in facts["corrupt"][0]
    assert facts["duplicates"]["images_too_many"] == 2 and facts["duplicates"]["across_identities"] == 1
    assert facts["bytes"] == sum(len(c) for c in contents(folder) if c != b"damaged")
    out = zoo(capsys, "info", folder)[1]
    assert "17 images of 3 identities" in out and "damaged: 1" in out and "█" in out
    assert list(facts)[:5] == ["name", "format", "images", "identities", "images_per_identity"]
    assert set(list(facts)[5:]) == {"sizes", "bytes", "corrupt", "duplicates"}
    quick = json.loads(zoo(capsys, "info", folder, "--json", "--quick")[1])
    assert quick == {key: facts[key] for key in quick} and "sizes" not in quick


def test_several_processes_find_what_one_finds(folder, capsys):
    (folder / "ben" / "zz.png").write_bytes(b"damaged")
    (folder / "ben" / "gone.png").mkdir()
    for i in range(300):
        (folder / "cora" / f"many{i}.png").write_bytes(encode_png(face(i, 8)))
    for words in (("info", folder), ("check", folder, "--against", folder)):
        one, several = (zoo(capsys, *words, "--json", "--workers", workers) for workers in (1, 2))
        assert one == several and "many" in one[1]
    assert zoo(capsys, "info", folder, "--workers", 0)[0] == 2


def test_info_knows_a_bin(tmp_path, capsys):
    picture = encode_png(face(1))
    write_bin(tmp_path / "a.bin", [picture, picture, encode_png(face(2)), b"damaged"], [True, False])
    status, out, _ = zoo(capsys, "info", tmp_path / "a.bin")
    assert status == 0 and "4 images in 2 pairs, 1 of one person" in out and "damaged: 1" in out


def test_the_histogram_counts_every_identity_once():
    counts = np.random.default_rng(0).integers(1, 200, 333).tolist()
    expected = Counter(next(bits for bits in range(9) if count < 2**bits) for count in counts)
    assert list(histogram(counts).values()) == [expected[bits] for bits in range(1, 9)]


CHANGES = {
    "as it is": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "quality 30": lambda image: decode(encode_jpeg(image, 30), "x"),
    "half the size": lambda image: cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.8).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_leak_is_found_whatever_was_done_to_it(tmp_path, capsys, change):
    (tmp_path / "train" / "a").mkdir(parents=True)
    for i in range(20):
        (tmp_path / "train" / "a" / f"{i:02d}.png").write_bytes(encode_png(face(i, 112)))
    leaked = encode_png(np.ascontiguousarray(CHANGES[change](face(13, 112))))
    write_bin(tmp_path / "b.bin", [encode_png(face(900, 112)), leaked], [False])
    status, out, _ = zoo(capsys, "check", tmp_path / "train", "--against", tmp_path / "b.bin", "--json")
    found = json.loads(out)
    assert status == 1 and len(found["matches"]) == 1
    assert found["matches"][0]["train"].endswith("13.png") and found["matches"][0]["benchmark"].endswith("picture 1")
    assert found["matches"][0]["exact"] == (change == "as it is")
    status, out, _ = zoo(capsys, "check", tmp_path / "train", "--against", tmp_path / "b.bin")
    assert status == 1 and "13.png" in out


def test_sets_without_a_common_picture_pass(tmp_path, capsys):
    for name, start in (("train", 0), ("bench", 500)):
        (tmp_path / name / "a").mkdir(parents=True)
        for i in range(20):
            (tmp_path / name / "a" / f"{i:02d}.png").write_bytes(encode_png(face(start + i, 112)))
    status, out, _ = zoo(capsys, "check", tmp_path / "train", "--against", tmp_path / "bench")
    assert status == 0 and out.startswith("0 of the 20 pictures")


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


def test_real_faces_of_other_people_are_no_near_duplicates(shared: Path, capsys):
    folder = shared / "data" / "lfw_rec"
    records = RecordFile(folder)
    hashes = np.stack([perceptual_hash(decode(records.read(i), "x")) for i in range(0, 4462, 9)])
    close = [(i, j) for i, j, _ in near_pairs(hashes, hashes, NEAR) if i < j]
    assert len(close) <= 1  # of 122,760 pairs


def test_a_preview_shows_the_originals_above(folder, tmp_path, capsys):
    status, out, _ = zoo(capsys, "preview", folder, "-o", tmp_path / "p.png", "--columns", 5, "--epochs", 2)
    assert status == 0 and "p.png" in out
    sheet = read_image(tmp_path / "p.png")
    dataset = open_dataset(str(folder))
    size = 112
    assert sheet.shape == (3 * (size + 4) + 8, 5 * (size + 4) + 4, 3)
    shown = [sheet[4 : 4 + size, 4 + c * (size + 4) :][:, :size] for c in range(5)]
    originals = [dataset.image(i) for i in range(len(dataset))]
    assert all(any(np.array_equal(crop, original) for original in originals) for crop in shown)
    zoo(capsys, "preview", folder, "-o", tmp_path / "q.png", "--columns", 5, "--epochs", 2)
    assert (tmp_path / "q.png").read_bytes() == (tmp_path / "p.png").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("inof", "x"),
        ("info",),
        ("info", "{tmp}/absent"),
        ("check", "{tmp}/people"),
        ("check", "{tmp}/people", "--against", "{tmp}/absent.bin"),
        ("check", "{tmp}/people", "--against", "{tmp}/people", "--distance", "999"),
        ("pack", "{tmp}/people", "{tmp}/rec", "--image-size", "0"),
        ("pack", "{tmp}/people", "{tmp}/x.bin", "--pairs", "{tmp}/absent.csv"),
        ("preview", "{tmp}/people", "-o", "{tmp}/x.png", "--augment", "stron"),
        ("preview", "{tmp}/people", "-o", "{tmp}/x.png", "--columns", "0"),
        ("preview", "synthetic:2x2x2", "-o", "{tmp}/x.png"),
        ("info", "synthetic"),
        ("info", "https://host.invalid/faces.zip"),
        ("info", "hf://datasets/mnist"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(folder, tmp_path, capsys, words):
    status, out, err = zoo(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert status == 2 and out == "" and err.startswith("zoo: ") and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["people"]


@pytest.mark.parametrize("action", ["info", "check", "pack", "extract", "preview"])
def test_each_action_has_help_with_an_example(capsys, action):
    with pytest.raises(SystemExit) as done:
        main(["data", action, "--help"])
    told = capsys.readouterr().out
    assert done.value.code == 0 and "Example: zoo data " + action in told
    assert action != "check" or f"(default: {NEAR})" in " ".join(told.split())
