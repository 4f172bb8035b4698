"""A folder with one sub-folder an identity as a training set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from zoo.data.base import to_size
from zoo.errors import InputError
from zoo.formats.images import SUFFIXES, Image, read_image


class FolderDataset:
    """The pictures of `root`/IDENTITY/PICTURE at `image_size` (height, width), identities and pictures by name.

    Sub-folders without pictures are no identities. InputError for a folder without any, and for a link that leads
    out of `root`: a downloaded archive must not read other files of this machine.
    """

    def __init__(self, root: str | Path, image_size: tuple[int, int] = (112, 112)) -> None:
        self.root = Path(root)
        self.image_size = image_size
        self.name = self.root.resolve().name
        self.identities: list[str] = []
        self._files: list[str] = []
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
                labels += [len(self.identities)] * len(pictures)
                self.identities.append(entry.name)
                self._files += pictures
        if not self._files:
            hint = f"{loose:,} pictures beside no sub-folder" if loose else "no pictures"
            raise InputError(
                f"expected one sub-folder of pictures an identity in {root}, found {hint}; sort them by person"
            )
        self.labels = np.array(labels, np.int64)
        self.num_classes = len(self.identities)

    def __len__(self) -> int:
        return len(self._files)

    def path(self, i: int) -> Path:
        """The file of picture i."""
        return self.root / self._files[i]

    def image(self, i: int) -> Image:
        """Picture i: RGB uint8 (height, width, 3); InputError, naming the file, when it is damaged."""
        return to_size(read_image(self.path(i)), self.image_size)

    def describe(self) -> str:
        """The set in one line."""
        return f"{len(self):,} images of {self.num_classes:,} identities, folder"


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
