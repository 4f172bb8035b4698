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
from zoo.evaluate.lists import read_csv, read_pairs_txt, read_rfw

__all__ = ["lfw", "rfw"]


def test_a_list_names_what_is_missing(lfw: Path) -> None:
    for name in ("Person_00", "Person_01"):
        (lfw / "aligned" / name / f"{name}_0002.jpg").unlink()
    with pytest.raises(InputError, match=r"missing 2 of them: .*Person_00_0002\.jpg, .*Person_01_0002\.jpg"):
        read_pairs_txt(lfw / "pairs.txt")
    (lfw / "aligned").rename(lfw.parent / "elsewhere")
    with pytest.raises(InputError, match="expected the people of"):
        read_pairs_txt(lfw / "pairs.txt")


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
