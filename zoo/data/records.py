"""A RecordIO file as a training set."""

from __future__ import annotations

from pathlib import Path

from zoo.data.base import EncodedFaces
from zoo.formats.recordio import RecordFile


class RecordDataset(EncodedFaces):
    """The pictures of a .rec file, or of the one in a folder, at `image_size` (height, width)."""

    kind = "RecordIO"

    def __init__(self, path: str | Path, image_size: tuple[int, int] = (112, 112)) -> None:
        self.records = RecordFile(path)
        self.image_size = image_size
        rec = self.records.path
        self.name = rec.parent.resolve().name if rec.name == "train.rec" else rec.stem
        self.labels = self.records.labels

    def content(self, i: int) -> bytes:
        return self.records.read(i)

    def where(self, i: int) -> str:
        return self.records.name(i)
