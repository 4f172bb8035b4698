"""Pairs listed over folders of pictures: LFW's pairs.txt, RFW, or a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.crop import LandmarkCut
from zoo.files import sha256
from zoo.formats.pairs import Pair, read_lfw_pairs, read_pairs_beside, read_pairs_csv


@dataclass(frozen=True)
class Listed:
    """The pairs of a list: their pictures, whether they show one person, and who is shown."""

    pictures: list[Path]
    """Those of pair i are at 2i and 2i + 1."""
    same: npt.NDArray[np.bool_]
    people: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]] | None
    """The names on either side, (pairs,) each; None where the list does not identify them."""
    sha256: str

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: Path) -> Listed:
        """InputError, naming some, for pairs without a truth and for missing pictures.

        A picture's folder identifies its person where the truth of every pair agrees with that.
        """
        unknown = sum(same is None for _, _, same in pairs)
        if unknown:
            raise InputError(
                f"expected 1 or 0 in the column `same` of {source}, missing for {unknown} of {len(pairs)} pairs"
            )
        pictures = [picture for a, b, _ in pairs for picture in (a, b)]
        absent = sorted({picture for picture in pictures if not picture.is_file()})
        if absent:
            named = ", ".join(map(str, absent[:3])) + (", …" if len(absent) > 3 else "")
            raise InputError(f"expected every picture that {source} names, missing {len(absent):,} of them: {named}")
        same = np.array([bool(truth) for _, _, truth in pairs])
        left, right = (np.array([str(picture.parent) for picture in pictures[side::2]]) for side in (0, 1))
        known = bool(((left == right) == same).all())
        return cls(pictures, same, (left, right) if known else None, sha256(source))


def read_pairs_txt(path: Path) -> Listed:
    """LFW's pairs.txt, whose people lie as NAME/NAME_0001.jpg beside it or in a folder beside it."""
    return Listed.of(read_pairs_beside(path), path)


def read_rfw(folder: Path, group: str) -> tuple[Listed, LandmarkCut]:
    """One group of RFW as handed out: data/GROUP/NAME/NAME_0001.jpg and the lists in txts/GROUP/.

    InputError, naming what is missing, where the folder is incomplete.
    """
    pairs, landmarks = (folder / "txts" / group / f"{group}_{what}.txt" for what in ("pairs", "lmk"))
    missing = [f"{path.relative_to(folder)}" for path in (pairs, folder / "data" / group) if not path.exists()]
    if missing:
        raise InputError(f"expected a whole RFW {group} in {folder}, missing there: {', '.join(missing)}")
    listed = Listed.of(read_lfw_pairs(pairs, folder / "data" / group, header=False), pairs)
    return listed, LandmarkCut(_read_landmarks(landmarks) if landmarks.is_file() else {})


def _read_landmarks(path: Path) -> dict[str, tuple[float, ...]]:
    """The lines `/test/data/GROUP/NAME/NAME_0001.jpg label x1 y1 … x5 y5`, by file name."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            numbers = tuple(float(word) for word in words[2:])
        except ValueError:
            numbers = ()
        if len(numbers) != 10 or not np.isfinite(numbers).all():
            raise InputError(f"expected a path, a label and ten numbers in line {number} of {path}, found {line!r}")
        found[words[0].rsplit("/", 1)[-1]] = numbers
    return found


def read_csv(path: Path) -> Listed:
    """The rows of a CSV with the columns a, b and same."""
    return Listed.of(read_pairs_csv(path), path)
