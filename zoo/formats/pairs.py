"""Pairs of pictures: CSV files, LFW's pairs.txt over a folder of people, and Parquet or Arrow tables."""

import contextlib
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained, needs

Pair = tuple[Path, Path, bool | None]  #: Two pictures and whether they show one person; None where that is not stated
_TRUTHS = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False, "": None}
_LFW = re.compile(r"(\S+) (\d+) (?:(\S+) )?(\d+)")  #: `name i j` or `name i name j`
FIRST = ("image1", "image_1", "img1", "image_a", "first", "a")
SECOND = ("image2", "image_2", "img2", "image_b", "second", "b")
TRUTH = ("is_same", "issame", "same", "target", "label", "pair_label")  #: Names of columns; the first counts
HUB = "hf://datasets/"
FETCHED = ("parquet", "arrow", "json", "bin", "csv", "txt", "zip", "tar")


def read_pairs_csv(path: str | Path, folder: str | Path | None = None) -> list[Pair]:
    """The rows of a CSV with the columns a, b and, where the truth is known, same (1 or 0).

    Relative paths start at `folder`, by default the CSV's. InputError for a missing file or column, a word that is
    neither 1 nor 0, and a list without rows; whether the pictures exist is checked when they are read.
    """
    path = Path(path)
    folder = path.parent if folder is None else Path(folder)
    rows = csv.DictReader(_text(path).splitlines(), skipinitialspace=True)
    names = rows.fieldnames or []
    if not {"a", "b"} <= set(names):
        raise InputError(f"expected the columns a,b,same in the first line of {path}, found {names}; add them")
    pairs: list[Pair] = []
    for number, row in enumerate(rows, start=2):
        truth = (row.get("same") or "").strip().lower()
        if not row["a"] or not row["b"] or truth not in _TRUTHS:
            raise InputError(f"expected two paths and 1 or 0 in line {number} of {path}, found {list(row.values())}")
        pairs.append((folder / row["a"], folder / row["b"], _TRUTHS[truth]))
    if not pairs:
        raise InputError(f"expected at least one pair below the first line of {path}, found none")
    return pairs


def read_columns(path: str | Path) -> dict[str, list[str]]:
    """The other columns of a CSV of pairs, by name: what groups of pairs are told apart by."""
    rows = list(csv.DictReader(_text(Path(path)).splitlines(), skipinitialspace=True))
    names = [name for name in (rows[0] if rows else {}) if name not in ("a", "b", "same")]
    return {name: [(row.get(name) or "").strip() for row in rows] for name in names if isinstance(name, str)}


def read_path_pairs(path: str | Path) -> list[Pair]:
    """Lines `A B 1` or `1 A B` (1: one person, 0: two), paths from the list's folder; InputError for any other line."""
    path = Path(path)
    pairs: list[Pair] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        match line.replace(",", " ").split():
            case [a, b, ("0" | "1") as truth] | [("0" | "1") as truth, a, b]:
                pairs.append((path.parent / a, path.parent / b, truth == "1"))
            case [*words] if words:
                raise InputError(f"expected `A B 1` or `1 A B`, with 1 or 0, in line {number} of {path}, found {words}")
    return pairs


def is_path_pairs(path: Path) -> bool:
    """Whether a list's lines are `A B 1` or `1 A B`, and the first one's pictures are there."""
    with contextlib.suppress(InputError):
        return any(picture.is_file() for picture, _, _ in read_path_pairs(path)[:1])
    return False


def people_in(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """The pictures of every sub-folder, each a person, sorted; without empty ones and hidden files."""
    found: dict[str, list[Path]] = {}
    for person in sorted(folder.glob("[!.]*/")):
        found[person.name] = sorted(file for file in person.glob("[!.]*") if file.suffix.lower() in suffixes)
    return {person: pictures for person, pictures in found.items() if pictures}


def read_lfw_pairs(path: str | Path, folder: str | Path, header: bool = True) -> list[Pair]:
    """The pairs of LFW's pairs.txt, in file order, as pictures `folder`/NAME/NAME_0001.jpg (or .png).

    The first line names the folds and the pairs of each kind a fold, or is missing without `header` (RFW); then `name i
    j` is one person, `name i name j` two (http://vis-www.cs.umass.edu/lfw/README.txt). InputError for any other line.
    """
    path, folder = Path(path), Path(folder)
    lines = [" ".join(line.split()) for line in _text(path).splitlines() if line.strip()]
    if header and not re.fullmatch(r"\d+( \d+)*", lines[0] if lines else ""):
        raise InputError(f"expected LFW's pairs.txt, whose first line is numbers, found {lines[:1]} in {path}")
    pairs: list[Pair] = []
    for number, line in enumerate(lines[header:], start=1 + header):
        form = _LFW.fullmatch(line)
        if not form:
            raise InputError(f"expected `name i j` or `name i name j` in line {number} of {path}, found {line!r}")
        name, i, other, j = form.groups()
        pairs.append((_lfw_picture(folder, name, i), _lfw_picture(folder, other or name, j), other is None))
    if not pairs:
        raise InputError(f"expected at least one pair in {path}, found none")
    return pairs


def listed_pairs(path: str | Path) -> list[Pair] | None:
    """The pairs of a .csv with the columns a and b, or of LFW's pairs.txt; None for any other list.

    The people of a pairs.txt lie beside it or in a folder there. InputError where they do not, and for a wrong row.
    """
    path = Path(path)
    if path.suffix == ".csv":
        words = [word.strip() for word in _text(path).partition("\n")[0].split(",")]
        return read_pairs_csv(path) if {"a", "b"} <= set(words) else None
    if path.suffix != ".txt":
        return None
    lines = [" ".join(line.split()) for line in _text(path).splitlines()[:9] if line.strip()]
    if len(lines) < 2 or not re.fullmatch(r"\d+( \d+)*", lines[0]):
        return None
    return read_pairs_beside(path) if _LFW.fullmatch(lines[1]) else None


def read_pairs_beside(path: Path) -> list[Pair]:
    """The pairs of LFW's pairs.txt with its people beside it or in a folder there; InputError where they are not."""
    first, _, _ = read_lfw_pairs(path, path.parent)[0]
    person = first.parent.name
    for folder in (path.parent, *sorted(entry for entry in path.parent.iterdir() if entry.is_dir())):
        if (folder / person).is_dir():
            return read_lfw_pairs(path, folder)
    found = f"found none of {person!r}; put the pictures beside the list"
    raise InputError(f"expected the people of {path} as folders in {path.parent} or in a folder there, {found}")


def _lfw_picture(folder: Path, name: str, number: str) -> Path:
    if "/" in name or "\\" in name or name.startswith("."):
        raise InputError(f"expected the name of a person's folder in the list of pairs, found {name!r}")
    picture = folder / name / f"{name}_{int(number):04d}.png"
    return picture if picture.is_file() else picture.with_suffix(".jpg")


def _text(path: Path) -> str:
    with explained(f"expected a text list of pairs at {path}, cannot read it", OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8-sig")


def is_pair_table(folder: Path, files: Sequence[str]) -> bool:
    """Whether a folder holds what `datasets` saves to disk."""
    return {"dataset_info.json", "state.json"} <= set(files)


def read_pair_table(path: Path) -> tuple[list[bytes], npt.NDArray[np.bool_], dict[str, list[Any]]]:
    """The encoded pictures (2 · pairs), whether each pair shows one person, and the other columns by their names.

    Two layouts are known: a row a pair with two pictures and a truth (image1, image2, target), and, as CVLface hands
    out its evaluation sets, a row a picture, two by two (image, is_same). `path` is a .parquet file, a folder of them,
    or a folder that `datasets` saved to disk. InputError for tables without such columns, pictures or truths.
    """
    with needs("pyarrow", "data", f"to read {path}"):
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    with explained(f"expected a table of pairs in {path}, cannot read it", arrow.ArrowException, OSError):
        parts = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        maps = [] if parts else [arrow.memory_map(str(file)) for file in sorted(path.glob("*.arrow"))]
        tables = [parquet.read_table(part) for part in parts] + [arrow.ipc.open_stream(one).read_all() for one in maps]
        table = arrow.concat_tables(tables)
    names = {name.lower(): name for name in table.column_names}
    first, second, truth = (next((names[n] for n in known if n in names), None) for known in (FIRST, SECOND, TRUTH))
    if truth is None or not ((first and second) or "image" in names):
        found = f"found {', '.join(table.column_names)}"
        raise InputError(f"expected columns image1, image2, target, or image, is_same in {path}, {found}")
    pictures = [first, second] if first and second else [names["image"]]
    cells = zip(*(table[name].to_pylist() for name in pictures), strict=True)
    images = [picture_in(cell, str(path)) for row in cells for cell in row]
    truths = table[truth].to_pylist()
    others = {name: table[name].to_pylist() for name in table.column_names if name not in (*pictures, truth, "index")}
    if len(pictures) == 1:
        if len(truths) % 2 or truths[0::2] != truths[1::2]:
            raise InputError(f"expected two rows a pair with one truth in {path}, found {len(truths)} that differ")
        truths, others = truths[0::2], {}
    if not truths or any(truth not in (0, 1) for truth in truths):
        raise InputError(f"expected 1 or 0 in the column {truth} of {path}, found {sorted(set(map(str, truths)))[:5]}")
    return images, np.array(truths, bool), others


def picture_in(cell: Any, where: str) -> bytes:
    """The encoded picture in a cell of a table: bytes, or {bytes, path} as the Hub has it; InputError for another."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise InputError(f"expected encoded pictures in {where}, found {type(content).__name__}; embed the files in it")
    return content


def fetch_dataset(address: str) -> Path:
    """The folder or file that hf://datasets/OWNER/NAME[@REVISION][/PATH] names, in the Hub client's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    form = re.fullmatch(HUB + r"([^/@]+/[^/@]+)(?:@([^/]*))?/*(.*?)/*", address)
    if not form:
        raise InputError(f"expected {HUB}OWNER/NAME[@REVISION][/PATH], found {address}")
    name, revision, inside = form.groups()
    wanted = [inside, f"{inside}/**"] if inside else [f"*.{kind}" for kind in FETCHED]
    with explained(f"cannot fetch {address}", HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        found = snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=wanted)
    place = Path(found) / inside
    if not place.exists():
        raise InputError(f"expected {inside} in the dataset {name}, found no such file; look at its page")
    return place
