"""insightface's training sets in MXNet's RecordIO (train.rec, train.idx, property), without MXNet.

In insightface's layout record 0 has the labels (N, M): pictures are the records 1 … N − 1, identities the records
N … M − 1, each with the labels (first picture, last picture + 1).
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.frames import HEADER, MAGIC, MAGIC_BYTES, MAX_PART, WHOLE, end_of, parts, unpack, whole_record

_FRAME_AND_FLAG = struct.Struct("<III")
_EXACT = 1 << 24
"""float32, in which the format keeps its ranges, tells whole numbers apart up to here."""

_CROWD, _LEAST_BYTES = 100_000, 96
"""A file of more records than this has at least so many bytes per record, or it holds no pictures: their numbers alone
would take more memory than the file."""


class RecordFile:
    """The pictures of a .rec file (or of the only one in a folder), in file order; a `Sequence` of encoded bytes.

    Opening reads the index, not the pictures; where the .idx is missing or does not fit, one scan replaces it. The map
    is made at the first read of each process, so that instances cross a fork and pickle by path. InputError for a
    file that is truncated or has a wrong magic, length or offset; what lies inside a record is checked when it is read.
    """

    labels: npt.NDArray[np.int64]
    """(images,): the identity of each picture, contiguous from 0."""
    num_classes: int
    """How many identities there are."""
    index_note: str
    """Where the offsets came from: "train.idx" or "a scan: …" with the reason."""

    def __init__(self, path: str | Path) -> None:
        self.path = _find_rec(Path(path))
        self._size = self.path.stat().st_size
        if self._size == 0:
            raise InputError(f"expected records in {self.path}, found an empty file; fetch it again")
        index = self.path.with_suffix(".idx")
        self._offsets, self._keys, self.index_note = self._open_index(index)
        self._images, raw = self._layout()
        if not len(self._images):
            raise InputError(f"expected pictures in {self.path}, found none among {len(self._offsets):,} records")
        names, self.labels = np.unique(raw, return_inverse=True)
        self.labels = self.labels.astype(np.int64)
        self.num_classes = len(names)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, i: int) -> bytes:
        """The encoded bytes of picture i; InputError, naming the record, when its frame or header is damaged."""
        if not 0 <= i < len(self._images):
            raise IndexError(f"picture {i} of {len(self._images)}")
        position = self._images.item(i)
        start = self._offsets.item(position)
        end = self._offsets.item(position + 1) if position + 1 < len(self._offsets) else self._size
        if end - start >= _FRAME_AND_FLAG.size:  # nearly every record: one part with one label
            magic, word, flag = _FRAME_AND_FLAG.unpack_from(self._map, start)
            if magic == MAGIC and flag == 0 and HEADER.size <= word <= MAX_PART:
                after = start + 8 + word
                if after + -word % 4 == end:
                    return self._map[start + 8 + HEADER.size : after]
        return unpack(self.payload(position), self._record_name(position))[1]

    def name(self, i: int) -> str:
        """Where picture i lies, for messages: "train.rec, record 17 (byte 51,200)"."""
        return self._record_name(int(self._images[i]))

    def payload(self, position: int) -> bytes:
        """The payload of the record that is `position`-th in the file, its parts put together."""
        start = int(self._offsets[position])
        end = int(self._offsets[position + 1]) if position + 1 < len(self._offsets) else self._size
        name = self._record_name(position)
        after = end_of(self._map, start, end, name)
        if after != end:
            raise InputError(
                f"expected {name} to end at byte {end:,}, found its end at {after:,};"
                f" delete {self.path.with_suffix('.idx').name} if it belongs to another file"
            )
        return MAGIC_BYTES.join(self._map[at : at + length] for at, length in parts(self._map, start, end, name))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_map"}

    @functools.cached_property
    def _map(self) -> mmap.mmap:
        with open(self.path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(content) != self._size:
            raise InputError(f"expected {self.path} to stay as it was opened, found another size; open it again")
        return content

    def _record_name(self, position: int) -> str:
        return f"{self.path}, record {int(self._keys[position]):,} (byte {int(self._offsets[position]):,})"

    def _open_index(self, index: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], str]:
        """Offsets in file order, the key of each record, and where they came from."""
        found = _read_index(index, most=_CROWD + self._size // _LEAST_BYTES)
        if found is None:
            reason = f"{index.name} cannot be read as an index" if index.exists() else f"there is no {index.name}"
        else:
            keys, offsets = found
            if self._fits(offsets):
                return offsets, keys, index.name
            reason = f"{index.name} does not fit"
        scanned = _scan(self._map, str(self.path))
        if found is not None and len(offsets) > len(scanned) and np.array_equal(offsets[: len(scanned)], scanned):
            raise InputError(
                f"expected the {len(offsets):,} records of {index.name} in {self.path}, found a file truncated after"
                f" {len(scanned):,}; fetch it again, or delete {index.name} to use what is there"
            )
        return scanned, np.arange(len(scanned), dtype=np.int64), f"a scan: {reason}"

    def _fits(self, offsets: npt.NDArray[np.int64]) -> bool:
        """Whether the index belongs to this file, as far as its first, its last and 64 records between can tell.

        Each read checks its own record again, so that nothing rests on the sample.
        """
        aligned = not (offsets % 4).any() and bool((np.diff(offsets) >= 8).all())
        if not aligned or offsets[0] != 0 or offsets[-1] > self._size - 8:
            return False
        for position in np.unique(np.linspace(0, len(offsets) - 1, 66).astype(np.int64)).tolist():
            end = int(offsets[position + 1]) if position + 1 < len(offsets) else self._size
            try:
                if end_of(self._map, int(offsets[position]), end, "") != end:
                    return False
            except InputError:
                return False
        return True

    def _layout(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The positions of the pictures among the records, and the raw label of each."""
        first, rest = unpack(self.payload(0), self._record_name(0))
        if not first.several or len(first.labels) != 2 or rest:
            images = np.arange(len(self._offsets), dtype=np.int64)
            return images, self._header_labels(images)
        images_end, identities_end = (self._whole(label, 0) for label in first.labels)
        count = len(self._offsets)
        if not 1 <= images_end <= identities_end:
            raise InputError(
                f"expected record 0 of {self.path} to tell how many records there are, found {first.labels}"
            )
        if identities_end > count and identities_end < _EXACT:
            raise InputError(
                f"expected {identities_end:,} records in {self.path}, as its record 0 says, found {count:,}: it is"
                " truncated; fetch it again"
            )
        order = np.argsort(self._keys, kind="stable")
        if not np.array_equal(self._keys[order], np.arange(count)):
            raise InputError(
                f"expected the keys 0 … {count - 1:,} in the index of {self.path}, found others; delete it"
            )
        if identities_end >= _EXACT:
            return self._wide_layout(order)
        images = order[1:images_end]
        raw = np.full(images_end, -1.0)
        for identity, position in enumerate(order[images_end:identities_end].tolist()):
            labels = unpack(self.payload(position), self._record_name(position))[0].labels
            if len(labels) != 2:
                raise InputError(
                    f"expected a range of two labels in {self._record_name(position)}, found {len(labels)}"
                )
            start, end = (self._whole(label, position) for label in labels)
            if not 1 <= start <= end <= images_end or (raw[start:end] >= 0).any():
                raise InputError(
                    f"expected a range of its own between 1 and {images_end:,} in {self._record_name(position)},"
                    f" found {start:,} … {end:,}; fetch the file again"
                )
            raw[start:end] = identity
        if (raw[1:] < 0).any():  # a picture in no range: the headers know better
            return images, self._header_labels(images)
        return images, raw[1:]

    def _wide_layout(self, order: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The layout where the ranges are rounded to float32: only the records themselves tell what they are.

        An identity's record has no picture behind its labels, and each picture's header tells its label.
        """
        is_image = np.fromiter((self._has_picture(position) for position in order.tolist()), np.bool_, len(order))
        images = order[is_image]
        return images, self._header_labels(images)

    def _has_picture(self, position: int) -> bool:
        start = int(self._offsets[position])
        if start + 12 > self._size:
            self.payload(position)  # which says what is wrong with a record that ends before its header
        word, flag = struct.unpack_from("<4xII", self._map, start)
        return bool(word >> 29 != WHOLE or (word & MAX_PART) > HEADER.size + 4 * flag)

    def _header_labels(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The first label of each record; InputError for one that is not a finite number."""
        labels = np.empty(len(positions))
        for i, position in enumerate(positions.tolist()):
            start = int(self._offsets[position])
            if start + 16 > self._size:  # it ends before its label
                unpack(self.payload(position), self._record_name(position))
            word, flag, label = struct.unpack_from("<4xIIf", self._map, start)
            if word >> 29 == WHOLE and flag == 0 and (word & MAX_PART) >= HEADER.size:
                labels[i] = label
            else:
                labels[i] = unpack(self.payload(position), self._record_name(position))[0].labels[0]
        if not np.isfinite(labels).all():
            wrong = int(positions[~np.isfinite(labels)][0])
            raise InputError(
                f"expected a finite label in {self._record_name(wrong)}, found {labels[~np.isfinite(labels)][0]}"
            )
        return labels

    def _whole(self, label: float, position: int) -> int:
        if not label.is_integer() or label < 0:
            raise InputError(f"expected a whole number in {self._record_name(position)}, found {label}")
        return int(label)


def _find_rec(path: Path) -> Path:
    """The .rec file that `path` is or, as a folder, holds; train.rec where a folder holds several."""
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"expected a .rec file or a folder with one at {path}, found nothing; check the path")
        return path
    found = sorted(path.glob("*.rec"))
    if path / "train.rec" in found:
        return path / "train.rec"
    if len(found) != 1:
        raise InputError(f"expected one .rec file in {path}, found {len(found)}; name the file itself")
    return found[0]


def _read_index(index: Path, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """(keys, offsets) in the order of the offsets, or None where the file is no table of at most `most` pairs."""
    with contextlib.suppress(OSError, ValueError, DeprecationWarning), warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy says so when it stops at a word that is no number
        with open(index, "rb") as file:
            content = file.read(45 * most)
        if sum(content.count(blank) for blank in b" \t\n\r\v\f") > 2 * most:
            return None
        table = np.fromstring(content, dtype=np.int64, sep=" ")
        if len(table) and len(table) % 2 == 0:
            keys, offsets = table.reshape(-1, 2).T
            order = np.argsort(offsets, kind="stable")
            keys, offsets = keys[order], offsets[order]
            if len(np.unique(keys)) == len(keys) and offsets[0] >= 0:
                return keys, offsets
    return None


def _scan(content: mmap.mmap, name: str) -> npt.NDArray[np.int64]:
    """The offset of every record from the first byte to the last; InputError where they do not line up."""
    offsets = np.empty(1024, np.int64)
    count = position = 0
    while position < len(content):
        if count == len(offsets):
            if count > _CROWD and position < count * _LEAST_BYTES:
                raise InputError(
                    f"expected pictures in {name}, found {count:,} records in its first {position:,} bytes;"
                    " fetch it again"
                )
            offsets.resize(2 * count, refcheck=False)
        offsets[count] = position
        count += 1
        whole = whole_record(content, position)
        if whole is not None and (after := whole + -whole % 4) <= len(content):
            position = after
        else:
            position = end_of(content, position, len(content), f"{name}, record {count - 1:,} (byte {position:,})")
    return offsets[:count].copy()
