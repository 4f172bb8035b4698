"""Published figures from a CSV file: read, or rejected with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.reproduce.stated import cited, read_stated, spelling, stated_by


@pytest.mark.parametrize(
    "line", ["lfw,accuracy,arcface", "lfw,accuracy,arcface,101", "lfw,accuracy,arcface,x", "a,b,c,1,2"]
)
def test_a_stated_figure_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "stated.csv").write_text(f"# a comment\nbenchmark,figure,head,percent\nlfw,AUC,arcface,99\n{line}\n")
    with pytest.raises(InputError, match=r"in line 4 of .*stated\.csv"):
        read_stated(tmp_path / "stated.csv")


def test_a_figure_stated_twice_is_refused_and_a_spreadsheets_mark_is_not(tmp_path: Path) -> None:
    rows = "benchmark,figure,head,percent\nlfw,AUC,arcface,99\n"
    (tmp_path / "stated.csv").write_text("\ufeff" + rows)
    assert read_stated(tmp_path / "stated.csv") == {("lfw", "auc", "arcface"): 0.99}
    (tmp_path / "stated.csv").write_text(rows + "LFW.bin,auc,ArcFace,98\n")
    with pytest.raises(InputError, match=r"found lfw auc arcface again in line 3"):
        read_stated(tmp_path / "stated.csv")


def test_benchmarks_and_figures_have_one_spelling() -> None:
    expected = ("cfpfp", "tar@far 0.0001", "arcface")
    assert spelling("CFP-FP", "TAR@FAR 1e-4", " ArcFace ") == expected
    assert spelling("cfp_fp.bin", "tar@far 0.0001", "arcface") == expected


def test_the_papers_tables_are_at_hand_whole_and_as_printed() -> None:
    paper = stated_by("paper")
    assert len(paper) == 54 and {head for _, _, head in paper} == {"arcface", "curricularface", "recurricularface"}
    assert paper["lfw", "accuracy", "recurricularface"] == pytest.approx(0.9925)
    assert paper["ijbc", "tar@far 0.0001", "arcface"] == pytest.approx(0.0157)
    assert paper["tinyface", "rank 1", "arcface"] == pytest.approx(0.42)
    assert "10.23977/acss.2024.080201" in cited("paper")
    assert stated_by("none") == {}
