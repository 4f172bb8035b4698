"""Pairs listed over folders: LFW, RFW and a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import (
    lfw,
    rfw,
    write_people,
)
from zoo.errors import InputError
from zoo.evaluate.lists import Listed, read_csv, read_people, read_rfw
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.pairs import read_pairs_beside, read_path_pairs

__all__ = ["lfw", "rfw"]


def test_a_list_names_what_is_missing(lfw: Path) -> None:
    for name in ("Person_00", "Person_01"):
        (lfw / "aligned" / name / f"{name}_0002.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 2 of them: .*Person_00_0002\.jpg, .*Person_01_0002\.jpg"):
        Listed.of(read_pairs_beside(lfw / "pairs.txt"), lfw / "pairs.txt")
    (lfw / "aligned").rename(lfw.parent / "elsewhere")
    with pytest.raises(InputError, match="expected the people of"):
        Listed.of(read_pairs_beside(lfw / "pairs.txt"), lfw / "pairs.txt")


@pytest.mark.parametrize("flat", [False, True])
def test_a_csv_knows_its_people_where_the_folders_agree_with_the_truth(tmp_path: Path, flat: bool) -> None:
    names = write_people(tmp_path, 3)
    rows = []
    for a in range(3):
        first = f"{names[a]}/{names[a]}_0001.jpg"
        second = f"{names[a]}/{names[a]}_0002.jpg"
        other = f"{names[a - 1]}/{names[a - 1]}_0001.jpg"
        if flat:
            (tmp_path / f"{a}.jpg").write_bytes((tmp_path / second).read_bytes())
            second = f"{a}.jpg"
        rows += [f"{first},{second},1", f"{first},{other},0"]
    (tmp_path / "own.csv").write_text("a,b,same\n" + "\n".join(rows) + "\n")
    listed = read_csv(tmp_path / "own.csv")
    assert listed.same.tolist() == [True, False] * 3 and (listed.people is None) == flat
    (tmp_path / "own.csv").write_text("a,b,same\n" + rows[0][:-1] + "\n")
    with pytest.raises(InputError, match="missing for 1 of 1 pairs"):
        read_csv(tmp_path / "own.csv")


def test_landmarks_that_are_missing_or_broken_are_named(rfw: Path) -> None:
    _, cut = read_rfw(rfw, "African")
    picture = np.zeros((160, 160, 3), np.uint8)
    with pytest.raises(InputError, match="expected landmarks for elsewhere"):
        cut(picture, Path("elsewhere.jpg"))
    assert cut(picture[:112, :112], Path("elsewhere.jpg")) is not None
    file = rfw / "txts" / "African" / "African_lmk.txt"
    file.write_text(file.read_text().replace("78\t80", "78\tnan", 1))
    with pytest.raises(InputError, match="ten numbers in line 1"):
        read_rfw(rfw, "African")


def test_a_folder_of_people_is_every_pair_or_some_of_each_person(tmp_path: Path) -> None:
    write_people(tmp_path, 4, pictures=3)
    (tmp_path / "empty").mkdir()
    whole = read_people(tmp_path)
    assert whole.place is not None and len(whole.pictures) == 12 and len(whole.place) == 2 * 66
    assert whole.same.sum() == 4 * 3 and len({tuple(pair) for pair in whole.place.reshape(-1, 2).tolist()}) == 66
    folders = [whole.pictures[place].parent.name for place in whole.place]
    assert [a == b for a, b in zip(folders[0::2], folders[1::2], strict=True)] == whole.same.tolist()
    some, again, other = (read_people(tmp_path, 2, seed) for seed in (0, 0, 1))
    assert some.same.sum() == 8 and (~some.same).sum() <= 8 and some.sha256 == again.sha256 != other.sha256
    with pytest.raises(InputError, match="expected folders of people"):
        read_people(tmp_path / "empty")


def test_lists_of_paths_with_the_truth_first_or_last_are_read(tmp_path: Path) -> None:
    write_people(tmp_path / "p", 2, pictures=2)
    a, b, c = "p/Person_00/Person_00_0001.jpg", "p/Person_00/Person_00_0002.jpg", "p/Person_01/Person_01_0001.jpg"
    for name, lines in (("last.txt", f"{a} {b} 1\n{a} {c} 0\n"), ("first.txt", f"1 {a} {b}\n0 {a} {c}\n")):
        (tmp_path / name).write_text(lines)
        assert PairsProtocol.named(tmp_path / name).layout == "paths"
        assert PairsProtocol.named(tmp_path / name).open().same.tolist() == [True, False]
    (tmp_path / "bad.txt").write_text(f"{a} {b} 1\n{a} {c}\n")
    with pytest.raises(InputError, match="in line 2 of"):
        read_path_pairs(tmp_path / "bad.txt")


def test_a_columns_of_a_csv_groups_its_pairs_and_two_of_numbers_are_a_gap(tmp_path: Path) -> None:
    write_people(tmp_path, 3, pictures=2)
    rows = ["a,b,same,region,age_a,age_b,note"]
    for person in range(3):
        one = f"Person_{person:02d}/Person_{person:02d}_000"
        rows.append(f"{one}1.jpg,{one}2.jpg,1,{'north' if person else 'south'},30,{31 + 15 * person},n{person}")
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    columns = read_csv(tmp_path / "own.csv").columns
    assert columns["region"].tolist() == ["south", "north", "north"]
    assert columns["age gap"].tolist() == ["0 to 5", "10 to 20", "30 or more"] and "age_a" not in columns
