"""Lists of pictures as people, pandas, MXNet and insightface write them."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.formats.lists import Labels, Strings, contiguous, read_list

TWO = [("a b/0.jpg", "anna"), ("c.png", "7")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("blanks.txt", "# people\na b/0.jpg anna\n\nc.png 7\n"),
        ("tabs.tsv", "a b/0.jpg\tanna\nc.png\t7\n"),
        ("commas.csv", "a b/0.jpg,anna\nc.png,7"),
        ("header.csv", "path,label\na b/0.jpg,anna\nc.png,7\n"),
        ("header.txt", "image label\na b/0.jpg anna\nc.png 7\n"),
        ("quotes.csv", 'label,image\n"anna","a b/0.jpg"\n7,"c.png"\n'),
        ("pandas.csv", ",Identity,File\n0,anna,a b/0.jpg\n1,7,c.png\n"),
    ],
)
def test_a_path_and_a_label_are_found_however_they_are_written(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert list(read_list(tmp_path / name)) == TWO


def test_quotes_keep_a_comma_and_bom_and_windows_lines_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"a,b.jpg",1\r\nc.jpg,"Smith, Anna"\r\n')
    assert list(read_list(tmp_path / "a.csv")) == [("a,b.jpg", "1"), ("c.jpg", "Smith, Anna")]


@pytest.mark.parametrize(
    "text",
    [
        "0\t5.000000\ta.jpg\n1\t7.000000\tb.jpg\n",
        "0\t5.000000\t3.5\ta.jpg\n1\t7.000000\t2.0\tb.jpg\n",  # im2rec counts the first label
        "1\ta.jpg\t5\n0\tb.jpg\t7\n",  # insightface: aligned, path, label
        "1\ta.jpg\t5\t10.5\t20\n0\tb.jpg\t7\t1\t2\n",
        "1 a.jpg 5\n0 b.jpg 7\n",
    ],
)
def test_mxnets_and_insightfaces_lists_are_read_as_they_read_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.lst").write_text(text)
    assert list(read_list(tmp_path / "train.lst")) == [("a.jpg", "5"), ("b.jpg", "7")]


def test_columns_that_could_be_meant_twice_are_refused_and_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,identity,label\na.jpg,anna,female\nb.jpg,ben,male\n")
    with pytest.raises(InputError, match=r"found 2 that may be: identity, label among .*\?label=COLUMN"):
        list(read_list(path))
    assert list(read_list(path, label="identity")) == [("a.jpg", "anna"), ("b.jpg", "ben")]
    with pytest.raises(InputError, match="expected one column called person for the label"):
        list(read_list(path, label="person"))
    path.write_text("x,a.jpg,anna\ny,b.jpg,ben\n")
    with pytest.raises(InputError, match=r"found 3 columns: .*\?image=0&label=1"):
        list(read_list(path))
    assert list(read_list(path, "1", "2")) == [("a.jpg", "anna"), ("b.jpg", "ben")]
    with pytest.raises(InputError, match="columns from 0 to 2"):
        list(read_list(path, "1", "3"))


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a.jpg,1\nb.jpg\n")
    with pytest.raises(InputError, match=r"expected a path and a label in line 2 of .*a\.csv"):
        list(read_list(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match="expected a text list of pictures"):
        list(read_list(tmp_path / "b.csv"))


WORDS = ["a", "", "caf\udce9.jpg", "日本/1.png", "b" * 300]


def test_texts_come_back_as_they_were() -> None:
    found = Strings(WORDS)
    assert list(found) == WORDS and len(found) == 5 and found[-1] == WORDS[-1]
    assert list(pickle.loads(pickle.dumps(found))) == WORDS
    with pytest.raises(IndexError):
        found[5]


def test_labels_are_numbered_in_the_order_of_words_or_of_numbers() -> None:
    for words, names, numbers in (
        (["b", "a", "b", "C"], ["C", "a", "b"], [2, 1, 2, 0]),
        (["10", "9", "-3", "9"], ["-3", "9", "10"], [2, 1, 0, 1]),
        (["7", "007", "1"], ["1", "7"], [1, 1, 0]),
        (["1", "x"], ["1", "x"], [0, 1]),
    ):
        labels = Labels()
        for word in words:
            labels.append(word)
        found, numbered = labels.numbered()
        assert len(labels) == len(words) and found == names
        assert numbered.tolist() == numbers and numbered.dtype == np.int64


def test_a_path_and_its_label_take_less_than_sixty_bytes() -> None:
    tracemalloc.start()
    texts, labels = Strings(), Labels()
    for i in range(20_000):
        texts.append(f"{i // 50:07d}/{i:08d}.jpg")
        labels.append(str(i // 50))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 20_000 < 60


def test_numbers_are_sorted_as_numbers():
    assert contiguous([10, 9, 10])[1].tolist() == [1, 0, 1]
    assert contiguous(["b", "a"])[0] == ["a", "b"]
