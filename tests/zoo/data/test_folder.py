"""Folders and lists as training sets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.layouts import (
    CONTENTS,
    noise,
    picture,
)
from zoo.data import open_dataset
from zoo.errors import InputError
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


def test_files_that_are_no_pictures_are_left_out(folder):
    (folder / "anna" / "notes.txt").write_text("x")
    (folder / "anna" / ".hidden.png").write_bytes(b"x")
    (folder / "empty").mkdir()
    (folder / "list.csv").write_text("x")
    assert len(open_dataset(str(folder))) == 9


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
    with pytest.raises(InputError, match="a link that leads out"):
        open_dataset(str(folder))
    (folder / place).unlink()
    (folder / "anna" / "inside.png").symlink_to(folder / "anna" / "0.png")
    assert len(open_dataset(str(folder))) == 10
