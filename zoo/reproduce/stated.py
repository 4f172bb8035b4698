"""Published figures to print below the measured ones: the paper's own, or those of a CSV file."""

import contextlib
import csv
import math
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import InputError

Stated = Mapping[tuple[str, str, str], float]
"""(benchmark, figure, head) in the form of `spelling` → a fraction."""

PAPER = "Tables 1 to 3 of Sang & Yang, ReCurricularFace, 2024, doi 10.23977/acss.2024.080201"

STATED_COLUMNS = ("benchmark", "figure", "head", "percent")


def stated_by(source: str) -> Stated:
    """The figures that "paper", "none" or a CSV file states."""
    if source == "none":
        return {}
    return read_stated(Path(__file__).with_name("paper.csv") if source == "paper" else Path(source))


def cited(source: str) -> str:
    """What the source of figures is called."""
    return PAPER if source == "paper" else source


def read_stated(path: Path) -> Stated:
    """The figures in a CSV file with the columns STATED_COLUMNS; # starts a comment.

    A benchmark is named like its file or as in its paper (`cfp_fp.bin`, CFP-FP), a figure as in the tables.
    InputError, with the line, for another layout, an invalid percentage and a repeated figure.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        advice = "check the path"
        raise InputError(f"expected quoted figures as CSV in {path}, cannot read it ({reason}); {advice}") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = csv.DictReader([line for _, line in numbered], skipinitialspace=True)
    if tuple(rows.fieldnames or ()) != STATED_COLUMNS:
        found = ",".join(rows.fieldnames or ()) or "nothing"
        advice = "name them in the first line"
        raise InputError(f"expected the columns {','.join(STATED_COLUMNS)} in {path}, found {found}; {advice}")
    stated: dict[tuple[str, str, str], float] = {}
    for (number, _), row in zip(numbered[1:], rows, strict=False):
        try:
            percent = float(row["percent"])
        except (TypeError, ValueError):
            percent = math.nan
        if None in row or None in row.values() or not 0 <= percent <= 100:
            raise InputError(
                f"expected a benchmark, a figure, a head and a percentage from 0 to 100 in line {number} of {path},"
                f" found {lines[number - 1]!r}; correct that line"
            )
        key = spelling(row["benchmark"], row["figure"], row["head"])
        if key in stated:
            raise InputError(f"expected each figure once, found {' '.join(key)} again in line {number} of {path}")
        stated[key] = percent / 100
    return stated


def spelling(benchmark: str, figure: str, head: str) -> tuple[str, str, str]:
    """One spelling of a benchmark (CFP-FP, cfp_fp.bin), a figure (TAR@FAR 1e-4, TAR@FAR 0.0001) and a head."""
    words = figure.lower().split()
    for place, word in enumerate(words):
        with contextlib.suppress(ValueError):
            words[place] = f"{float(word):g}"
    name = "".join(letter for letter in benchmark.lower().removesuffix(".bin") if letter.isalnum())
    return name, " ".join(words), head.strip().lower()
