"""Folders and lists as training sets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.support.layouts import (
    CONTENTS,
    face,
    noise,
    picture,
    write_lfw,
)
from zoo.data import open_dataset
from zoo.data.open import open_people, open_pictures
from zoo.data.pack import extract, pack_records
from zoo.errors import InputError
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png


@pytest.mark.parametrize("text", ["", "# a comment\n", "one-word\n", "p0/000.PNG \n"])
def test_a_list_of_nothing_is_refused(root, text):
    (root / "list.txt").write_text(text)
    with pytest.raises(InputError, match=r"list\.txt"):
        open_dataset(str(root / "list.txt"))


def test_a_list_may_have_comments_names_with_blanks_and_words_as_labels(root):
    (root / "list.txt").write_text("# people\na b.png anna\n\nc.png zoe\n")
    for name in ("a b.png", "c.png"):
        (root / name).write_bytes(CONTENTS[0])
    dataset = open_dataset(str(root / "list.txt"), image_size=(8, 8))
    assert dataset.labels.tolist() == [0, 1] and np.array_equal(dataset.image(0), picture(0))


def test_files_that_are_no_pictures_are_left_out_and_counted(folder):
    (folder / "anna" / "notes.txt").write_text("x")
    (folder / "ben" / "scan.gif").write_bytes(b"x")
    (folder / "anna" / ".hidden.png").write_bytes(b"x")
    (folder / "empty").mkdir()
    (folder / "list.csv").write_text("x")
    (folder / "loose.png").write_bytes(encode_png(noise(1)))
    dataset = open_dataset(str(folder))
    assert len(dataset) == 9
    assert dataset.notes == [
        "1 pictures beside the people's folders are left out",
        "files that are no pictures zoo reads are left out: 1 .txt, 1 .gif",
    ]


def test_tiff_is_read_as_torchvisions_imagefolder_reads_it(folder, tmp_path):
    (folder / "ben" / "scan.TIF").write_bytes(cv2.imencode(".tiff", noise(5)[:, :, ::-1])[1].tobytes())
    (folder.parent / "list.txt").write_text("people/ben/scan.TIF ben\npeople/ben/0.png anna\n")
    dataset, listed = open_dataset(str(folder), (16, 16)), open_dataset(str(folder.parent / "list.txt"), (16, 16))
    out = np.empty((16, 16, 3), np.uint8)
    dataset.read_into(5, out)
    assert len(dataset) == 10 and not dataset.notes
    assert all(np.array_equal(image, noise(5)) for image in (dataset.image(5), out, listed.image(0)))
    pack_records(str(folder), tmp_path / "rec")
    extract(str(tmp_path / "rec"), tmp_path / "again")
    assert [file.suffix for file in sorted((tmp_path / "again/000001").iterdir())] == [".png", ".png", ".tif"]


@pytest.mark.parametrize("layout", ["folder", "list"])
def test_names_in_another_case_are_other_people_and_are_told(folder, layout):
    (folder / "Anna").mkdir()
    (folder / "Anna" / "0.png").write_bytes(encode_png(noise(7)))
    (folder.parent / "list.txt").write_text("".join(f"{f} {f.parent.name}\n" for f in sorted(folder.rglob("*.png"))))
    dataset = open_dataset(str(folder if layout == "folder" else folder.parent / "list.txt"))
    assert dataset.num_classes == 4
    told = "2 names of people differ from another in case alone, and are people of their own: Anna, anna"
    assert list(dataset.notes) == [told]


def test_pictures_below_a_persons_folder_are_hers_and_a_person_may_be_a_path(folder):
    (folder / "anna" / "2024" / "may").mkdir(parents=True)
    (folder / "anna" / "2024" / "may" / "1.png").write_bytes(encode_png(noise(1)))
    dataset = open_dataset(str(folder))
    assert len(dataset) == 10 and dataset.labels.tolist() == [0] * 4 + [1] * 2 + [2] * 4
    deeper = open_dataset(f"{folder.parent}?depth=2")
    assert [name for name in deeper.identities if "people" in name] == ["people/anna", "people/ben", "people/cora"]
    for wrong in ("depth=0", "depth=x", "links=all"):
        with pytest.raises(InputError, match="expected depth=1 to 9 and links=inside or follow"):
            open_dataset(f"{folder}?{wrong}")
    with pytest.raises(InputError, match=r"no option of .* is called 'dept'; did you mean depth"):
        open_dataset(f"{folder}?dept=2")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda root: None, "no pictures"),
        (lambda root: (root / "a.png").write_bytes(b"x"), "1 pictures beside no sub-folder"),
        (lambda root: [(root / "a").mkdir(), (root / "a" / "1.png").write_bytes(b"x")], "found 1"),
        (lambda root: root.rmdir(), "found nothing"),
        (lambda root: [root.rmdir(), root.write_text("x")], "a file of another kind"),
    ],
)
def test_what_nobody_can_train_on_is_one_sentence(tmp_path, make, found):
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(InputError, match=found) as refusal:
        open_dataset(str(root))
    assert "\n" not in str(refusal.value) and "root" in str(refusal.value)


@pytest.mark.parametrize("place", ["anna/9.png", "dora"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, place):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.png").write_bytes(encode_png(noise(1)))
    target = tmp_path / "secret" / ("1.png" if place.endswith("png") else "")
    (folder / place).symlink_to(target)
    with pytest.raises(InputError, match=r"a link that leads out.*\?links=follow"):
        open_dataset(str(folder))
    assert len(open_dataset(f"{folder}?links=follow")) == 10
    (folder / place).unlink()
    (folder / "anna" / "inside.png").symlink_to(folder / "anna" / "0.png")
    assert len(open_dataset(str(folder))) == 10


def test_links_in_a_circle_end(folder):
    (folder / "anna" / "again").symlink_to(folder / "anna")
    with pytest.raises(InputError, match="is it a circle"):
        open_dataset(str(folder))


@pytest.mark.parametrize("listed", ["pairs.txt", "pairs.csv"])
def test_the_pictures_of_a_list_come_in_the_order_of_its_pairs(tmp_path, listed):
    dataset = open_pictures(str(write_lfw(tmp_path, listed)))
    names = [dataset.where(i).rpartition("/")[2] for i in range(len(dataset))]
    assert [name[:3] + name[-5] for name in names] == ["Ann1", "Ann2", "Bob1", "Bob1", "Ann2", "Bob1"]
    assert all(dataset.content(i) == (tmp_path / "lfw" / n[:5] / n).read_bytes() for i, n in enumerate(names))


def test_pairs_are_no_training_set(tmp_path):
    for name in ("a.bin", "B.BIN"):
        write_bin(tmp_path / name, [encode_png(face(i)) for i in range(2)], [True])
    assert len(open_pictures(str(tmp_path / "B.BIN"))) == 2
    (tmp_path / "list").mkdir()
    for benchmark in (write_lfw(tmp_path / "list", "pairs.txt"), tmp_path / "a.bin", tmp_path / "B.BIN"):
        with pytest.raises(InputError, match="zoo evaluate MODEL --data"):
            open_dataset(str(benchmark))
        with pytest.raises(InputError, match="a benchmark of pairs"):
            open_people(str(benchmark))


def test_a_list_whose_people_are_elsewhere_says_where_they_belong(tmp_path):
    (tmp_path / "pairs.txt").write_text("10\t300\nAbel_Pacheco\t1\t4\n")
    with pytest.raises(InputError, match="'Abel_Pacheco'; put the pictures beside the list"):
        open_pictures(str(tmp_path / "pairs.txt"))
