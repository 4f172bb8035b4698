"""Benchmarks of pairs are looked at as pictures, and are no training sets."""

from __future__ import annotations

import pytest

from tests.support.layouts import face, write_lfw
from zoo.data import open_dataset
from zoo.data.open import open_people, open_pictures
from zoo.errors import InputError
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png


@pytest.mark.parametrize("listed", ["pairs.txt", "pairs.csv"])
def test_the_pictures_of_a_list_come_in_the_order_of_its_pairs(tmp_path, listed):
    dataset = open_pictures(str(write_lfw(tmp_path, listed)))
    names = [dataset.where(i).rpartition("/")[2] for i in range(len(dataset))]
    assert [name[:3] + name[-5] for name in names] == ["Ann1", "Ann2", "Bob1", "Bob1", "Ann2", "Bob1"]
    assert all(dataset.content(i) == (tmp_path / "lfw" / n[:5] / n).read_bytes() for i, n in enumerate(names))


def test_pairs_are_no_training_set(tmp_path):
    write_bin(tmp_path / "a.bin", [encode_png(face(i)) for i in range(2)], [True])
    (tmp_path / "list").mkdir()
    for benchmark in (write_lfw(tmp_path / "list", "pairs.txt"), tmp_path / "a.bin"):
        with pytest.raises(InputError, match="zoo evaluate MODEL --data"):
            open_dataset(str(benchmark))
        with pytest.raises(InputError, match="a benchmark of pairs"):
            open_people(str(benchmark))


def test_a_list_whose_people_are_elsewhere_says_where_they_belong(tmp_path):
    (tmp_path / "pairs.txt").write_text("10\t300\nAbel_Pacheco\t1\t4\n")
    with pytest.raises(InputError, match="'Abel_Pacheco'; put the pictures beside the list"):
        open_pictures(str(tmp_path / "pairs.txt"))
