"""Pairs listed over folders of pictures: LFW's pairs.txt, RFW, or a CSV."""

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.finder import LandmarkCut
from zoo.files import sha256
from zoo.formats.images import PHOTO_SUFFIXES
from zoo.formats.pairs import Pair, people_in, read_columns, read_lfw_pairs, read_pairs_csv

BANDS = (0, 5, 10, 20, 30)  #: Where the bands of a gap between two columns begin, e.g. years between two ages.
MOST_PAIRS = 4_000_000  #: Pairs that a folder of people is compared in, at most, besides those of one person


@dataclass(frozen=True)
class Listed:
    """The pairs of a list: their pictures, whether they show one person, and who is shown."""

    pictures: list[Path]  #: Those of pair i are at 2i and 2i + 1
    same: npt.NDArray[np.bool_]
    people: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]] | None
    """The names on either side, (pairs,) each; None where the list does not identify them."""
    sha256: str
    columns: dict[str, npt.NDArray[np.str_]] = field(default_factory=dict)  #: What else the pairs are, (pairs,) each
    place: npt.NDArray[np.int64] | None = None
    """Where pictures stand in many pairs: those of pair i are `pictures[place[2i]]` and `pictures[place[2i + 1]]`."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: Path) -> "Listed":
        """InputError, naming some, for pairs without a truth and for missing pictures.

        A picture's folder identifies its person where the truth of every pair agrees with that.
        """
        if unknown := sum(same is None for _, _, same in pairs):
            missing = f"missing for {unknown} of {len(pairs)} pairs"
            raise InputError(f"expected 1 or 0 in the column `same` of {source}, {missing}")
        pictures = [picture for a, b, _ in pairs for picture in (a, b)]
        if absent := sorted({picture for picture in pictures if not picture.is_file()}):
            named = ", ".join(map(str, absent[:3])) + (", …" if len(absent) > 3 else "")
            raise InputError(f"expected every picture that {source} names, missing {len(absent):,} of them: {named}")
        same = np.array([bool(truth) for _, _, truth in pairs])
        left, right = (np.array([str(picture.parent) for picture in pictures[side::2]]) for side in (0, 1))
        return cls(pictures, same, (left, right) if ((left == right) == same).all() else None, sha256(source))


def read_rfw(folder: Path, group: str) -> tuple[Listed, LandmarkCut]:
    """One group of RFW as handed out (data/GROUP/NAME/NAME_0001.jpg, txts/GROUP/); InputError names what is missing."""
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
        numbers: tuple[float, ...] = ()
        with contextlib.suppress(ValueError):
            numbers = tuple(float(word) for word in words[2:])
        if len(numbers) != 10 or not np.isfinite(numbers).all():
            raise InputError(f"expected a path, a label and ten numbers in line {number} of {path}, found {line!r}")
        found[words[0].rsplit("/", 1)[-1]] = numbers
    return found


def read_csv(path: Path) -> Listed:
    """The rows of a CSV with the columns a, b and same; its other columns tell groups of pairs apart.

    Two columns X_a and X_b of numbers, such as ages, are a gap: their difference, in bands.
    """
    columns = read_columns(path)
    arrays = {name: np.array(values) for name, values in columns.items()}
    for name in [name for name in columns if name.endswith("_a") and f"{name[:-2]}_b" in columns]:
        with contextlib.suppress(ValueError):
            gap = np.abs(arrays[name].astype(float) - arrays[f"{name[:-2]}_b"].astype(float))
            bands = [*(f"{low} to {high}" for low, high in itertools.pairwise(BANDS)), f"{BANDS[-1]} or more"]
            arrays[f"{name[:-2]} gap"] = np.array(bands)[np.searchsorted(BANDS, gap, side="right") - 1]
            del arrays[name], arrays[f"{name[:-2]}_b"]
    return replace(Listed.of(read_pairs_csv(path), path), columns=arrays)


def read_people(folder: Path, most: int | None = None, seed: int = 0) -> Listed:
    """Every pair of pictures of a folder of people, or at most `most` pairs of one person and `most` of two per person.

    Where all would be more than MOST_PAIRS, pairs of two people are drawn, by `seed`, until there are that many.
    """
    people = people_in(folder, PHOTO_SUFFIXES)
    if len(people) < 2 or not any(len(pictures) > 1 for pictures in people.values()):
        raise InputError(f"expected folders of people with several pictures in {folder}, found {len(people)} folders")
    pictures = [picture for own in people.values() for picture in own]
    owner = np.repeat(np.arange(len(people)), [len(own) for own in people.values()])
    rng = np.random.default_rng(seed)
    genuine = []
    for person in range(len(people)):
        own = np.flatnonzero(owner == person)
        pairs = own[np.stack(np.triu_indices(len(own), 1), axis=1)]
        genuine.append(pairs[np.sort(rng.permutation(len(pairs))[:most])])
    same = np.concatenate(genuine)
    wanted = MOST_PAIRS if most is None else most * len(people)
    if most is None and len(pictures) ** 2 <= 2 * MOST_PAIRS:
        others = np.stack(np.triu_indices(len(pictures), 1), axis=1)
    else:
        others = np.unique(np.sort(rng.integers(0, len(pictures), (2 * wanted, 2)), axis=1), axis=0)
    others = others[owner[others[:, 0]] != owner[others[:, 1]]]
    others = others[np.sort(rng.permutation(len(others))[:wanted])]
    pairs = np.concatenate([same, others])
    names = np.array(list(people))[owner]
    who, digest = (names[pairs[:, 0]], names[pairs[:, 1]]), hashlib.sha256(pairs.astype("<i8").tobytes()).hexdigest()
    return Listed(pictures, np.arange(len(pairs)) < len(same), who, digest, place=pairs.ravel().astype(np.int64))
