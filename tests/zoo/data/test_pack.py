"""Sets into the field's files and out of them: byte for byte, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.layouts import contents, face, write_faces
from tests.support.places import ROOT
from tests.support.records import identity_payloads, write
from zoo.data import open_dataset
from zoo.data.pack import extract, extract_pairs, mixed_folds, pack_pairs, pack_records
from zoo.errors import InputError
from zoo.formats.bins import read_bin, write_bin
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.formats.recordio import RecordFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "people")


def test_packing_keeps_every_byte_and_extracting_gives_them_back(folder, tmp_path):
    packed = pack_records(str(folder), tmp_path / "rec")
    records = RecordFile(tmp_path / "rec")
    assert (packed.images, packed.identities, packed.problems) == (13, 3, [])
    assert records.labels.tolist() == [0] * 3 + [1] + [2] * 9
    assert [records.content(i) for i in range(13)] == contents(folder)
    assert (tmp_path / "rec" / "property").read_text() == "3,32,32"
    extracted = extract(str(tmp_path / "rec"), tmp_path / "again")
    assert (extracted.images, extracted.identities) == (13, 3) and contents(tmp_path / "again") == contents(folder)
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["000000", "000001", "000002", "identities.csv"]
    pack_records(str(tmp_path / "again"), tmp_path / "rec2")
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "rec2" / name).read_bytes() == (tmp_path / "rec" / name).read_bytes()


def test_people_keep_their_names_in_a_packed_set(folder, tmp_path):
    (folder / "ben").rename(folder / 'Renée, "B"')
    for damaged in (folder / "anna").iterdir():
        damaged.write_bytes(b"no picture")
    pack_records(str(folder), tmp_path / "rec", skip_corrupt=True)
    packed = open_dataset(str(tmp_path / "rec"))
    assert packed.identities == ['Renée, "B"', "cora"] and packed.labels.tolist() == [0] * 1 + [1] * 9
    extract(str(tmp_path / "rec"), tmp_path / "again")
    assert (tmp_path / "again/identities.csv").read_text() == (tmp_path / "rec/identities.csv").read_text()
    (tmp_path / "rec/identities.csv").write_text("label,name\n0,ben\n")  # of another set
    assert open_dataset(str(tmp_path / "rec")).identities is None


def test_progress_is_told_of_every_picture(folder, tmp_path):
    import contextlib

    told: list[tuple[str, int | None, list[int]]] = []

    @contextlib.contextmanager
    def bar(caption: str, total: int | None):
        steps: list[int] = []
        told.append((caption, total, steps))
        yield steps.append

    pack_records(str(folder), tmp_path / "rec", bar=bar)
    extract(str(folder), tmp_path / "out", bar=bar)
    assert [(caption, total, sum(steps)) for caption, total, steps in told] == [
        ("packing", 13, 13),
        ("extracting", 13, 13),
    ]


def test_a_packed_file_is_that_of_the_description(folder, tmp_path):
    pack_records(str(folder), tmp_path / "rec")
    (tmp_path / "hand").mkdir()
    write(tmp_path / "hand", identity_payloads([contents(folder / name) for name in ("anna", "ben", "cora")]))
    for name in ("train.rec", "train.idx"):
        assert (tmp_path / "rec" / name).read_bytes() == (tmp_path / "hand" / name).read_bytes()


def test_mxnets_own_files_come_back_byte_for_byte(shared: Path, tmp_path):
    original = shared / "data" / "lfw_rec"
    extract(str(original), tmp_path / "faces")
    assert pack_records(str(tmp_path / "faces"), tmp_path / "rec").images == 4462
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "rec" / name).read_bytes() == (original / name).read_bytes()


def test_a_bin_comes_back_byte_for_byte(tmp_path):
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(6)], [True, False, True])
    assert extract_pairs(tmp_path / "a.bin", tmp_path / "pairs") == 3
    assert pack_pairs(tmp_path / "pairs/pairs.csv", tmp_path / "b.bin", folder=tmp_path / "pairs") == (2, 1)
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_lfws_own_list_over_a_folder_becomes_a_bin(tmp_path):
    for name in ("Ann_A", "Bob_B"):
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for i in (1, 2):
            (tmp_path / "lfw" / name / f"{name}_{i:04d}.jpg").write_bytes(encode_jpeg(face(len(name) + i)))
    (tmp_path / "pairs.txt").write_text("1\t1\nAnn_A\t1\t2\nAnn_A\t2\tBob_B\t1\n")
    pack_pairs(tmp_path / "pairs.txt", tmp_path / "x.bin", folder=tmp_path / "lfw")
    images, same = read_bin(tmp_path / "x.bin")
    assert same.tolist() == [True, False] and images[1] == images[2] and images[0] != images[1]


def test_a_pair_without_its_picture_or_its_truth_is_one_sentence(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(face(1)))
    for row, found in (("a.png,b.png,1", "expected a picture at"), ("a.png,a.png,", "expected 1 or 0 for every pair")):
        (tmp_path / "pairs.csv").write_text(f"a,b,same\n{row}\n")
        with pytest.raises(InputError, match=found):
            pack_pairs(tmp_path / "pairs.csv", tmp_path / "x.bin")
        assert not (tmp_path / "x.bin").exists()


def test_pictures_of_several_sizes_need_a_size(folder, tmp_path):
    (folder / "anna" / "9.png").write_bytes(encode_png(face(9, 48)))
    with pytest.raises(InputError, match=r"9\.png with 48×48; pass --image-size"):
        pack_records(str(folder), tmp_path / "rec")
    assert not (tmp_path / "rec").exists()
    pack_records(str(folder), tmp_path / "rec", image_size=32)
    records = RecordFile(tmp_path / "rec")
    assert {decode(records.content(i), "x").shape for i in range(len(records))} == {(32, 32, 3)}
    assert records.content(0) == contents(folder)[0]


@pytest.mark.parametrize("action", [pack_records, extract])
def test_a_damaged_picture_stops_or_is_left_out_and_told(folder, tmp_path, action):
    (folder / "ben" / "0.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"ben/0\.png"):
        action(str(folder), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["people"], "something half-written was left"
    written = action(str(folder), tmp_path / "out", skip_corrupt=True)
    assert written.images == 12 and len(written.problems) == 1 and "ben/0.png" in written.problems[0]
    assert open_dataset(str(tmp_path / "out")).labels.tolist() == [0] * 3 + [1] * 9


def test_what_exists_is_never_written_over(folder, tmp_path):
    (tmp_path / "rec").mkdir()
    for action in (pack_records, extract):
        with pytest.raises(InputError, match="expected no file or folder"):
            action(str(folder), tmp_path / "rec")
    with pytest.raises(InputError, match="create it first"):
        pack_records(str(folder), tmp_path / "absent" / "rec")


def test_the_names_of_identities_never_name_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(face(1)))
    (tmp_path / "list.tsv").write_text("a.png\t../../evil\na.png\t/etc\n")
    extract(str(tmp_path / "list.tsv"), tmp_path / "out")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert found == ["000000/00000000.png", "000001/00000001.png"]
    assert "../../evil" in (tmp_path / "out" / "identities.csv").read_text()


def test_a_set_of_damage_alone_is_not_packed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "people" / name).mkdir(parents=True)
        (tmp_path / "people" / name / "0.png").write_bytes(np.random.default_rng(0).bytes(50))
    with pytest.raises(InputError, match="found none that can be read"):
        pack_records(str(tmp_path / "people"), tmp_path / "rec", skip_corrupt=True)
    assert not (tmp_path / "rec").exists()


def test_the_python_of_the_documentation_runs(tmp_path, monkeypatch):
    code = (ROOT / "docs/data.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    write_faces(tmp_path / "faces")
    write_bin(tmp_path / "lfw.bin", contents(tmp_path / "faces")[:2], [True])
    found: dict[str, object] = {}
    exec(code, found)
    assert len(found["dataset"]) == 13 and (tmp_path / "faces_rec/train.rec").is_file()


def test_each_fold_of_packed_pairs_holds_both_kinds(tmp_path):
    for same in ([True] * 33 + [False] * 27, [False] * 11 + [True] * 90, [True, True, False] * 20):
        order = mixed_folds(np.array(same))
        assert sorted(order.tolist()) == list(range(len(same)))
        folds = np.array_split(np.array(same)[order], 10)
        assert all(fold.any() and not fold.all() for fold in folds)
        assert mixed_folds(np.array(same)[order]).tolist() == list(range(len(same))), "an order that will do is kept"
    picture = encode_png(face(1))
    (tmp_path / "0.png").write_bytes(picture)
    rows = "".join(f"0.png,0.png,{int(i < 20)}\n" for i in range(40))
    (tmp_path / "pairs.csv").write_text("a,b,same\n" + rows)
    assert pack_pairs(tmp_path / "pairs.csv", tmp_path / "out.bin") == (20, 20)
    _, same = read_bin(tmp_path / "out.bin")
    assert same.reshape(10, 4).sum(axis=1).tolist() == [2] * 10
