"""Sets on this machine: a folder with one sub-folder per person, a list of paths and labels, RecordIO, pairs."""

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces, Size
from zoo.errors import InputError, explained
from zoo.formats.bins import read_bin
from zoo.formats.images import SUFFIXES, read_file
from zoo.formats.lists import Labels, Strings, read_list
from zoo.formats.pairs import listed_pairs
from zoo.formats.recordio import PARTIAL, RecordFile

MOST_LEVELS = 32  #: Folders deeper than this below a training set are a circle of links
NAMES = "identities.csv"  #: Beside a .rec or an extracted set: `label,name` lines, in the order of the labels


class Files(EncodedFaces):
    """Pictures in files of their own."""

    def __init__(self, name: str, root: Path, image_size: Size | None) -> None:
        self.name, self.root, self.image_size = name, root, image_size
        self._files = Strings()  #: The path of each picture from `root`

    def content(self, i: int) -> bytes:
        return read_file(self.root / self._files[i])

    def where(self, i: int) -> str:
        return str(self.root / self._files[i])


class FolderDataset(Files):
    """The pictures of `root`/IDENTITY/PICTURE at `image_size` (height, width), identities and pictures by name.

    As torchvision's ImageFolder it takes pictures at any depth below a person's folder. With `depth` an identity is a
    path of so many folders. `notes` counts the files that are left out: those of other kinds, and pictures beside the
    people's folders; hidden ones do not count. InputError for a folder without pictures, and, unless `links` is
    "follow", for a link that leads out of `root`: a downloaded archive must not read other files of this machine.
    """

    kind = "folder"

    def __init__(self, root: str, image_size: Size | None = None, depth: str = "1", links: str = "inside") -> None:
        super().__init__(Path(root).resolve().name, Path(root), image_size)
        if not (depth.isdecimal() and 1 <= int(depth) <= 9) or links not in ("inside", "follow"):
            raise InputError(f"expected depth=1 to 9 and links=inside or follow, found depth={depth} and links={links}")
        self._follow, self._others = links == "follow", Counter[str]()
        people: dict[str, int] = {}
        self._add("", int(depth), people)
        loose = self._others.pop("", 0)
        if not self._files:
            hint = f"found {loose:,} pictures beside no sub-folder" if loose else "found no pictures"
            raise InputError(f"expected one sub-folder of pictures per identity in {root}, {hint}; sort them by person")
        self.identities = list(people)
        self.labels = np.repeat(np.arange(len(people), dtype=np.int64), list(people.values()))
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in self._others.most_common(5))
        self.notes = [f"{loose:,} pictures beside the people's folders are left out"] if loose else []
        self.notes += [f"files that are no pictures zoo reads are left out: {kinds}"] if kinds else []

    def _add(self, place: str, depth: int, people: dict[str, int]) -> None:
        """Adds what lies at `place`, a path from `root` with a slash at the end, `depth` levels above the pictures."""
        if place.count("/") > MOST_LEVELS:
            raise InputError(f"expected at most {MOST_LEVELS} levels of folders, found {place[:80]}…; is it a circle?")
        folder = self.root / place
        with explained(f"expected a readable folder at {folder}, found none", OSError), os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda e: e.name)
        for entry in entries:
            leads_out = entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self.root.resolve())
            if leads_out and not self._follow:
                told = f"that leads out of it; copy what it names, or take {self.root}?links=follow if you trust it"
                raise InputError(f"expected the pictures inside {self.root}, found {entry.path}, a link {told}")
            is_picture = entry.name.lower().endswith(SUFFIXES)
            if entry.is_dir():
                before = len(self._files)
                self._add(f"{place}{entry.name}/", depth - 1, people)
                if depth == 1 and len(self._files) > before:
                    people[place + entry.name] = len(self._files) - before
            elif depth > 0:
                self._others[""] += is_picture
            elif is_picture and entry.is_file():
                self._files.append(place + entry.name)
            else:
                self._others[Path(entry.name).suffix.lower() or "without a suffix"] += 1


class ListDataset(Files):
    """The pictures that a text file lists (`zoo.formats.lists`), with paths from the list's folder on."""

    kind = "list"

    def __init__(self, path: str | Path, image_size: Size | None = None, **columns: str) -> None:
        path = Path(path)
        super().__init__(path.stem, path.parent, image_size)
        words = Labels()
        for file, word in read_list(path, **columns):
            self._files.append(file)
            words.append(word)
        if not words:
            raise InputError(f"expected pictures in the list {path}, found none; write `path label` lines into it")
        self.identities, self.labels = words.numbered()


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Writes what each identity is called."""
    with open(folder / NAMES, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("label", "name"), *enumerate(names)])


class RecordDataset(RecordFile, EncodedFaces):
    """The pictures of a .rec file, or of the one in a folder."""

    kind = "RecordIO"

    def __init__(self, path: str | Path, image_size: Size | None = None) -> None:
        super().__init__(path)
        self.image_size, folder = image_size, self.path.parent
        self.name = folder.resolve().name if self.path.name == "train.rec" else self.path.stem
        with contextlib.suppress(OSError, IndexError, csv.Error):
            with open(folder / NAMES, newline="", encoding="utf-8", errors="surrogateescape") as file:
                names = [row[1] for row in csv.reader(file)][1:]
            self.identities = names if len(names) == self.num_classes else None
        if PARTIAL in self.index_note:
            self.notes = [f"only the records that {self.path.stem}.idx lists are used; the file has more"]


class LoosePictures(Files):
    """The pictures in a folder at any depth, by path; nothing says whose they are, so all have one label."""

    kind = "pictures"

    def __init__(self, root: Path) -> None:
        super().__init__(root.resolve().name, root, None)
        found = sorted(file for file in root.rglob("*") if file.name.lower().endswith(SUFFIXES))
        self._files = Strings(str(file.relative_to(root)) for file in found)
        self.labels = np.zeros(len(found), np.int64)


class PairPictures(EncodedFaces):
    """A benchmark's pictures, as stored; each pair counts as an identity, and as of two people without a truth."""

    def __init__(self, path: str, image_size: Size | None = None) -> None:
        """The benchmark at `path`: a .bin, or a list of pairs."""
        self.path, self.name, self.image_size = path, Path(path).stem, image_size
        self._pictures: Sequence[bytes | Path]
        self.same: npt.NDArray[np.bool_]
        if path.lower().endswith(".bin"):
            self.kind = "pairs (.bin)"
            self._pictures, self.same = read_bin(path)
        else:
            pairs = listed_pairs(path) or []
            self.kind, self._pictures = "listed pairs", [file for a, b, _ in pairs for file in (a, b)]
            self.same = np.array([truth is True for _, _, truth in pairs])
        self.labels = np.repeat(np.arange(len(self.same), dtype=np.int64), 2)

    def content(self, i: int) -> bytes:
        picture = self._pictures[i]
        return picture if isinstance(picture, bytes) else read_file(picture)

    def where(self, i: int) -> str:
        picture = self._pictures[i]
        return f"{self.path}, picture {i}" if isinstance(picture, bytes) else str(picture)
