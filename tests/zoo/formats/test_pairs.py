"""Lists of pairs: what a row means, and one sentence for each row that means nothing."""

from __future__ import annotations

import pytest

from zoo.errors import InputError
from zoo.formats.pairs import read_lfw_pairs, read_pairs_csv


def test_rows_are_relative_to_the_list_and_truth_may_be_absent(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.jpg, y.jpg,1\nx.jpg,/z.jpg,0\nx.jpg,w.jpg,\n")
    found = read_pairs_csv(tmp_path / "pairs.csv")
    assert [(a.name, b.name, same) for a, b, same in found] == [
        ("x.jpg", "y.jpg", True),
        ("x.jpg", "z.jpg", False),
        ("x.jpg", "w.jpg", None),
    ]
    assert found[0][0] == tmp_path / "x.jpg" and str(found[1][1]) == "/z.jpg"


def test_a_list_without_truths_and_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "pairs.csv").write_text("\ufeffa,b\nx,y\n", encoding="utf-8")
    assert [same for _, _, same in read_pairs_csv(tmp_path / "pairs.csv")] == [None]


@pytest.mark.parametrize("text", ["", "x.jpg,y.jpg,1\n", "a,b,same\n", "a,b,same\nx.jpg,,1\n", "a,b,same\nx,y,maybe\n"])
def test_a_list_that_says_nothing_is_refused_by_name(tmp_path, text):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        read_pairs_csv(tmp_path / "pairs.csv")


def test_lfw_pairs_name_the_files_of_the_folder(tmp_path):
    (tmp_path / "A.B_C").mkdir()
    (tmp_path / "A.B_C" / "A.B_C_0004.png").write_bytes(b"")
    (tmp_path / "pairs.txt").write_text("1\t1\nA.B_C\t1\t4\nA.B_C\t1\tDora\t20\n")
    found = read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)
    assert [(a.name, b.name, same) for a, b, same in found] == [
        ("A.B_C_0001.jpg", "A.B_C_0004.png", True),
        ("A.B_C_0001.jpg", "Dora_0020.jpg", False),
    ]


@pytest.mark.parametrize("line", ["A 1", "A 1 2 3 4", "A 1 B x", "../etc 1 2"])
def test_a_line_that_is_no_pair_of_lfw_is_refused(tmp_path, line):
    (tmp_path / "pairs.txt").write_text(f"1 1\n{line}\n")
    with pytest.raises(InputError):
        read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)
