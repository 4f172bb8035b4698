"""A RecordIO file as a training set."""

from __future__ import annotations

from pathlib import Path

from zoo.data.base import to_size
from zoo.formats.images import Image, decode
from zoo.formats.recordio import RecordFile


class RecordDataset:
    """The pictures of a .rec file, or of the one in a folder, at `image_size` (height, width)."""

    def __init__(self, path: str | Path, image_size: tuple[int, int] = (112, 112)) -> None:
        self.records = RecordFile(path)
        self.image_size = image_size
        rec = self.records.path
        self.name = rec.parent.resolve().name if rec.name == "train.rec" else rec.stem
        self.labels = self.records.labels
        self.num_classes = self.records.num_classes

    def __len__(self) -> int:
        return len(self.records)

    def image(self, i: int) -> Image:
        """Picture i: RGB uint8 (height, width, 3); InputError, naming the record, when it is damaged."""
        return to_size(decode(self.records.read(i), self.records.name(i)), self.image_size)

    def describe(self) -> str:
        """The set in one line."""
        return self.records.describe()
