"""Lists of pictures: a path and a label a line, as people, MXNet and insightface write them."""

import csv
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.formats.images import SUFFIXES

IMAGE_COLUMNS = "image path file filename file_name filepath file_path image_path img img_path picture"
LABEL_COLUMNS = "label labels identity identity_id person person_id subject subject_id class target id"
"""Names of columns that may hold the picture and the identity, in any case."""


def read_list(path: Path, image: str | None = None, label: str | None = None) -> Iterator[tuple[str, str]]:
    """(path, label) of each picture in a list; lines that are empty or begin with # do not count.

    Between the two stands a tab, a comma (with quotes as in CSV) or blanks; a first line without any picture names the
    columns, or `image` and `label` do, by name or number from 0. MXNet's .lst, `number, labels …, path` with tabs,
    counts the first label, as its im2rec does; insightface's is `aligned, path, label`. InputError for a line that is
    none of this, and for columns that more than one reading fits.
    """
    rows = _rows(path)
    first = list(itertools.islice(rows, 2))
    if not first:
        return
    names = first[0][1]
    headed = not any(map(_is_picture, names)) and len(first) > 1 and any(map(_is_picture, first[1][1]))
    if headed:
        places = choose(names, image, label, str(path))
    elif image is not None or label is not None:
        if not all(word and word.isdecimal() and int(word) < len(names) for word in (image, label)):
            told = f"whose first line names none, found {image} and {label}"
            raise InputError(f"expected image and label as columns from 0 to {len(names) - 1} of {path}, {told}")
        places = int(image or 0), int(label or 0)
    else:
        places = _usual_places(names, path)
    for number, cells in itertools.chain(first[headed:], rows):
        file, word = (cells[place] if -len(cells) <= place < len(cells) else "" for place in places)
        if not file or not word:
            raise InputError(f"expected a path and a label in line {number} of {path}, found {','.join(cells)[:80]!r}")
        yield file, word.removesuffix(".000000")


def choose(names: Sequence[str], image: str | None, label: str | None, where: str) -> tuple[int, int]:
    """The places of picture and label among `names`: those asked for, else the only usual ones, else InputError."""
    found = []
    for asked, known, option in ((image, IMAGE_COLUMNS, "image"), (label, LABEL_COLUMNS, "label")):
        usual = known.split()
        fits = [n for n, name in enumerate(names) if (name == asked if asked is not None else name.lower() in usual)]
        if len(fits) != 1:
            several = f"{len(fits)} that may be: {', '.join(names[n] for n in fits)}" if fits else "none"
            wanted = asked or f"{', '.join(usual[:4])} or the like"
            told = f"found {several} among {', '.join(names)}; name it: {where}?{option}=COLUMN"
            raise InputError(f"expected one column called {wanted} for the {option} in {where}, {told}")
        found += fits
    return found[0], found[1]


def _usual_places(cells: Sequence[str], path: Path) -> tuple[int, int]:
    """Where path and label stand in a list without names, by its first line."""
    numeric = [_is_number(cell) for cell in cells]
    if len(cells) <= 2:
        return 0, 1
    if _is_picture(cells[-1]) and all(numeric[:-1]):  # MXNet: number, labels, path
        return -1, 1
    if cells[0] in ("0", "1") and _is_picture(cells[1]) and all(numeric[2:]):  # insightface: aligned, path, label, …
        return 1, 2
    found = f"found {len(cells)} columns: {','.join(cells)[:80]!r}; name two of them, from 0: {path}?image=0&label=1"
    raise InputError(f"expected a path and a label in each line of {path}, {found}")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    told = f"expected a text list of pictures at {path}, cannot read it"
    with explained(told, OSError, UnicodeDecodeError, csv.Error), open(path, encoding="utf-8-sig", newline="") as file:
        separator = ""
        for number, line in enumerate(file, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            line = line.rstrip("\r\n")
            separator = separator or next((mark for mark in ("\t", ",") if mark in line), " ")
            if separator == " ":
                words = line.split()
                if not (len(words) > 2 and words[0] in ("0", "1") and _is_picture(words[1]) and _is_number(words[2])):
                    words = [cell.strip() for cell in line.strip().rsplit(" ", 1)]  # paths may have blanks
                yield number, words
                continue
            quoted = csv.reader([line], delimiter=separator, skipinitialspace=True) if '"' in line else None
            yield number, [cell.strip() for cell in (next(quoted) if quoted else line.split(separator))]


def _is_picture(cell: str) -> bool:
    return cell.lower().endswith(SUFFIXES)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).removeprefix("-").isdecimal()


class Strings:
    """Texts behind one another in one block of bytes: each takes its bytes and eight more."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._content, self._ends = bytearray(), array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text, which may be a file's name that is no UTF-8."""
        self._content += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        number = range(len(self))[i]
        start = self._ends[number - 1] if number else 0
        return self._content[start : self._ends[number]].decode("utf-8", "surrogateescape")


class Labels:
    """The label of each picture, read as words: each distinct word is kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._found = array("q")

    def append(self, word: str) -> None:
        self._found.append(self._numbers.setdefault(word, len(self._numbers)))

    def __len__(self) -> int:
        return len(self._found)

    def numbered(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The distinct words in their order, that of numbers where all are numbers, and (images,) which each has."""
        words = list(self._numbers)
        numbers = all(word.removeprefix("-").isdecimal() and len(word) < 18 for word in words)
        # 007 and 7 are one number
        names, of_word = contiguous([int(word) for word in words] if numbers else np.array(words, object))
        return names, of_word[np.frombuffer(self._found, np.int64)]


def contiguous(names: Sequence[object] | npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct names in their order, and (images,) which of them each picture has: labels from 0 without gaps."""
    distinct, labels = np.unique(np.asarray(names), return_inverse=True)
    return [str(name) for name in distinct.tolist()], labels.astype(np.int64, copy=False)
