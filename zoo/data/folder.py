"""Training sets on this machine: a folder with one sub-folder per person, a list of paths and labels, RecordIO."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from zoo.data.base import EncodedFaces, identities_of
from zoo.errors import InputError
from zoo.formats.images import SUFFIXES, read_file
from zoo.formats.pairs import listed_pairs
from zoo.formats.recordio import RecordFile


class Files(EncodedFaces):
    """Pictures in files of their own."""

    def __init__(self, name: str, root: Path, image_size: tuple[int, int] | None) -> None:
        self.name, self.root, self.image_size = name, root, image_size
        self._files: list[str] = []
        """The path of each picture from `root`."""

    def content(self, i: int) -> bytes:
        return read_file(self.root / self._files[i])

    def where(self, i: int) -> str:
        return str(self.root / self._files[i])


class FolderDataset(Files):
    """The pictures of `root`/IDENTITY/PICTURE at `image_size` (height, width), identities and pictures by name.

    Sub-folders without pictures are skipped. InputError for a folder without any, and for a link that leads
    out of `root`: a downloaded archive must not read other files of this machine.
    """

    kind = "folder"

    def __init__(self, root: str | Path, image_size: tuple[int, int] | None = (112, 112)) -> None:
        super().__init__(Path(root).resolve().name, Path(root), image_size)
        identities: list[str] = []
        self.identities = identities
        labels: list[int] = []
        loose = 0
        for entry in _entries(self.root, self.root):
            if not entry.is_dir():
                loose += entry.name.lower().endswith(SUFFIXES)
                continue
            pictures = [
                f"{entry.name}/{file.name}"
                for file in _entries(Path(entry.path), self.root)
                if file.name.lower().endswith(SUFFIXES) and file.is_file()
            ]
            if pictures:
                labels += [len(identities)] * len(pictures)
                identities.append(entry.name)
                self._files += pictures
        if not self._files:
            hint = f"{loose:,} pictures beside no sub-folder" if loose else "no pictures"
            raise InputError(
                f"expected one sub-folder of pictures per identity in {root}, found {hint}; sort them by person"
            )
        self.labels = np.array(labels, np.int64)


class ListDataset(Files):
    """The pictures that a text file lists, one `path label` per line: blanks, a tab or a comma between, # for comments.

    An .lst file is MXNet's: number, label, path, with tabs. Relative paths start at the list's folder; a label is any
    word. InputError for a line that is none of this and for a list without pictures.
    """

    kind = "list"

    def __init__(self, path: str | Path, image_size: tuple[int, int] | None = (112, 112)) -> None:
        path = Path(path)
        super().__init__(path.stem, path.parent, image_size)
        words: list[str] = []
        if path.suffix in (".txt", ".csv") and listed_pairs(path) is not None:
            raise InputError(
                f"expected a path and a label in each line of {path}, found a list of pairs, which is a benchmark:"
                f" zoo evaluate MODEL --data {path}"
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"expected a text list of pictures at {path}, cannot read it ({error})") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            file, label = _list_line(line, path.suffix == ".lst")
            if not file or not label:
                raise InputError(f"expected a path and a label in line {number} of {path}, found {line[:80]!r}")
            self._files.append(file)
            words.append(label)
        if not words:
            raise InputError(f"expected pictures in the list {path}, found none; write `path label` lines into it")
        self.identities, self.labels = identities_of(words)


class RecordDataset(EncodedFaces):
    """The pictures of a .rec file, or of the one in a folder."""

    kind = "RecordIO"

    def __init__(self, path: str | Path, image_size: tuple[int, int] | None = (112, 112)) -> None:
        self.records = RecordFile(path)
        self.image_size = image_size
        rec = self.records.path
        self.name = rec.parent.resolve().name if rec.name == "train.rec" else rec.stem
        self.labels = self.records.labels

    def content(self, i: int) -> bytes:
        return self.records.read(i)

    def where(self, i: int) -> str:
        return self.records.name(i)


class LoosePictures(Files):
    """The pictures in a folder at any depth, by path; nothing says whose they are, so all have one label."""

    kind = "pictures"

    def __init__(self, root: Path) -> None:
        super().__init__(root.resolve().name, root, None)
        found = sorted(file for file in root.rglob("*") if file.name.lower().endswith(SUFFIXES))
        self._files = [str(file.relative_to(root)) for file in found]
        self.labels = np.zeros(len(found), np.int64)


def _list_line(line: str, mxnet: bool) -> tuple[str, str]:
    if mxnet:
        _, label, file = [*line.split("\t"), "", "", ""][:3]
        return file.strip(), label.strip().removesuffix(".000000")
    separator = next((mark for mark in ("\t", ",") if mark in line), None)
    file, _, label = line.rpartition(separator) if separator else line.rstrip().rpartition(" ")
    return file.strip(), label.strip()


def _entries(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """What lies in `folder`, by name, hidden files left out; InputError for a link that leads out of `root`."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"expected a readable folder at {folder}, found none ({error.strerror})") from None
    for entry in entries:
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"expected the pictures inside {root}, found {entry.path}, a link"
                " that leads out of it; copy what it names"
            )
    return entries
