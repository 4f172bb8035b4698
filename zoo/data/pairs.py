"""Benchmarks of pairs, looked at as sets of pictures."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.formats.bins import read_bin
from zoo.formats.images import read_file
from zoo.formats.pairs import Pair


class PairPictures(EncodedFaces):
    """The pictures of a benchmark of pairs; it does not say who they show, so each pair counts as an identity."""

    def __init__(self, path: str | Path, same: npt.NDArray[np.bool_], kind: str) -> None:
        self.path, self.name, self.image_size = Path(path), Path(path).stem, None
        self.same, self.kind = same, kind
        self.labels = np.repeat(np.arange(len(same), dtype=np.int64), 2)


class BinPictures(PairPictures):
    """The pictures of a .bin."""

    def __init__(self, path: str | Path) -> None:
        self._images, same = read_bin(path)
        super().__init__(path, same, "pairs (.bin)")

    def content(self, i: int) -> bytes:
        return self._images[i]

    def where(self, i: int) -> str:
        return f"{self.path}, picture {i}"


class ListedPictures(PairPictures):
    """The pictures that a list of pairs names; a pair without a stated truth counts as one of two people."""

    def __init__(self, path: str | Path, pairs: list[Pair]) -> None:
        super().__init__(path, np.array([truth is True for _, _, truth in pairs]), "listed pairs")
        self._files = [file for a, b, _ in pairs for file in (a, b)]

    def content(self, i: int) -> bytes:
        return read_file(self._files[i])

    def where(self, i: int) -> str:
        return str(self._files[i])
