"""insightface's training sets in MXNet's RecordIO (train.rec, train.idx, property), without MXNet.

In insightface's layout record 0 has the labels (N, M): pictures are the records 1 … N − 1, identities the records
N … M − 1, each with the labels (first picture, last picture + 1).
"""

import contextlib
import functools
import hashlib
import mmap
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.files import atomic_path, cache_folder, hold
from zoo.formats.frames import FRAME, HEADER, MAGIC, MAGIC_BYTES, MAX_PART, WHOLE, Header, end_of, parts, unpack

_FRAME_AND_FLAG = struct.Struct("<III")
_EXACT = 1 << 24  #: float32, in which the format keeps its ranges, tells whole numbers apart up to here
_CROWD, _LEAST_BYTES = 100_000, 96
"""A file of more records than this, with fewer bytes per record, holds no pictures: their numbers would outgrow it."""
KEEP_FROM_BYTES = 1 << 28  #: Files from this size on get an index of our own
PARTIAL = ", which lists a part of the records"
_LARGE = 1 << 24  #: No picture of a face is larger; a record that seems so is looked at through the map


class RecordFile:
    """The pictures of a .rec file (or of the only one in a folder), in file order; a `Sequence` of encoded bytes.

    Opening reads the index, not the pictures; where the .idx is missing or does not fit, one scan replaces it. An .idx
    that lists a part of the records stands for that part, as it does for MXNet. What the opening of a large file found
    is kept for the next one (`kept_index`), and one process of several looks for it. The file is opened at
    the first read of each process, so that instances cross a fork and pickle by path. InputError for a file that is
    truncated or has a wrong magic, length or offset; what lies inside a record is checked when it is read.
    """

    labels: npt.NDArray[np.int64]  #: (images,): the identity of each picture, contiguous from 0
    num_classes: int
    index_note: str  #: Where the offsets came from: "train.idx", with what it leaves out, or "a scan: …" with the why

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            found = sorted(self.path.glob("*.rec"))
            if self.path / "train.rec" not in found and len(found) != 1:
                raise InputError(f"expected one .rec file in {path}, found {len(found)}; name the file itself")
            self.path = found[0] if len(found) == 1 else self.path / "train.rec"
        elif not self.path.is_file():
            raise InputError(f"expected a .rec file or a folder with one at {path}, found nothing; check the path")
        self._size = self.path.stat().st_size
        if self._size == 0:
            raise InputError(f"expected records in {self.path}, found an empty file; fetch it again")
        if self._size < KEEP_FROM_BYTES:
            self._look()
            return
        index = kept_index(self.path)
        with open(index.with_suffix(".lock"), "w") as held:
            hold(held, wait=True)  # one process reads the file, the others wait for what it found
            if not self._recall(index):
                self._look()
                # where nothing can be written, the next opening reads the file again
                with contextlib.suppress(OSError, InputError), atomic_path(index) as path, open(path, "wb") as file:
                    kept: dict[str, Any] = {"offsets": self._offsets, "keys": self._keys, "images": self._images}
                    kept |= {"num_classes": self.num_classes, "index_note": self.index_note}
                    np.savez(file, labels=self.labels.astype(np.int32), **kept)

    def _look(self) -> None:
        """Finds every record, picture and label."""
        self._offsets, self._keys, self.index_note = self._open_index(self.path.with_suffix(".idx"))
        self._images, raw = self._layout()
        if not len(self._images):
            raise InputError(f"expected pictures in {self.path}, found none among {len(self._offsets):,} records")
        if raw[0] == 0 and np.isin(np.diff(raw), (0, 1)).all():  # as insightface writes them; a sort would take long
            self.labels, self.num_classes = raw.astype(np.int64), int(raw[-1]) + 1
        else:
            names, labels = np.unique(raw, return_inverse=True)
            self.labels, self.num_classes = labels.astype(np.int64, copy=False), len(names)
        self.__dict__.pop("_map", None)  # a scan's pages are no longer this process's

    def _recall(self, index: Path) -> bool:
        """Takes what an earlier opening kept; False where there is nothing that can be read."""
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(index) as kept:
            self._offsets, self._keys, self._images = kept["offsets"], kept["keys"], kept["images"]
            self.labels, self.num_classes = kept["labels"].astype(np.int64), int(kept["num_classes"])
            self.index_note = f"{index.name}, kept from {kept['index_note']}"
            return True
        return False

    def __len__(self) -> int:
        return len(self._images)

    def content(self, i: int) -> bytes:
        """The encoded bytes of picture i; InputError, naming the record, when its frame or header is damaged."""
        if not 0 <= i < len(self._images):
            raise IndexError(f"picture {i} of {len(self._images)}")
        position = self._images.item(i)
        start = self._offsets.item(position)
        end = self._offsets.item(position + 1) if position + 1 < len(self._offsets) else self._size
        if _FRAME_AND_FLAG.size <= end - start < _LARGE:  # nearly every record: one part with one label
            record = os.pread(self._file.fileno(), end - start, start)
            magic, word, flag = _FRAME_AND_FLAG.unpack_from(record)
            if magic == MAGIC and flag == 0 and HEADER.size <= word <= MAX_PART and 8 + word + -word % 4 == len(record):
                return record[8 + HEADER.size : 8 + word]
        return self._unpacked(position)[1]

    def where(self, i: int) -> str:
        """Where picture i lies, for messages: "train.rec, record 17 (byte 51,200)"."""
        return self._record_name(int(self._images[i]))

    def payload(self, position: int) -> bytes:
        """The payload of the record that is `position`-th in the file, its parts put together."""
        start = int(self._offsets[position])
        end = int(self._offsets[position + 1]) if position + 1 < len(self._offsets) else self._size
        name = self._record_name(position)
        after = end_of(self._map, start, end, name)
        if after != end and PARTIAL not in self.index_note:
            advice = f"delete {self.path.with_suffix('.idx').name} if it belongs to another file"
            raise InputError(f"expected {name} to end at byte {end:,}, found its end at {after:,}; {advice}")
        return MAGIC_BYTES.join(self._map[at : at + length] for at, length in parts(self._map, start, end, name))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_map", "_file")}

    @functools.cached_property
    def _file(self) -> IO[bytes]:
        """The file, read in no order: what a disk reads ahead of a picture would be for nothing."""
        file = open(self.path, "rb", buffering=0)  # noqa: SIM115  it closes with this object
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return file

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
            if (gaps := self._gaps(offsets)) is not None:
                return offsets, keys, index.name + (PARTIAL if gaps else "")
            reason = f"{index.name} does not fit"
        scanned = _scan(self._map, str(self.path))
        if found is not None and len(offsets) > len(scanned) and np.array_equal(offsets[: len(scanned)], scanned):
            told = f"file truncated after {len(scanned):,}; fetch it again, or delete {index.name} to use what is there"
            raise InputError(f"expected the {len(offsets):,} records of {index.name} in {self.path}, found a {told}")
        return scanned, np.arange(len(scanned), dtype=np.int64), f"a scan: {reason}"

    def _gaps(self, offsets: npt.NDArray[np.int64]) -> bool | None:
        """Whether records lie between those of the index; None for another file's, as far as 66 of its records tell."""
        if (offsets % 4).any() or not (np.diff(offsets) >= 8).all() or offsets[-1] > self._size - 8:
            return None
        gaps = bool(offsets[0])
        with contextlib.suppress(InputError):
            for position in np.unique(np.linspace(0, len(offsets) - 1, 66).astype(np.int64)).tolist():
                end = int(offsets[position + 1]) if position + 1 < len(offsets) else self._size
                gaps |= end_of(self._map, int(offsets[position]), end, "") < end
            return gaps
        return None

    def _layout(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The positions of the pictures among the records, and the raw label of each."""
        first, rest = self._unpacked(0)
        if not first.several or len(first.labels) != 2 or rest:
            images = np.arange(len(self._offsets), dtype=np.int64)
            return images, self._headers(images)[0]
        (images_end, identities_end), count = self._range(0), len(self._offsets)
        if not 1 <= images_end <= identities_end:
            raise InputError(f"expected the numbers of records in record 0 of {self.path}, found {first.labels}")
        if count < identities_end < _EXACT:
            partial = f" in {self.path.stem}.idx; delete that"
            how = f"found {count:,}{partial if PARTIAL in self.index_note else ': it is truncated; fetch it again'}"
            raise InputError(f"expected {identities_end:,} records in {self.path}, as its record 0 says, {how}")
        in_order = np.array_equal(self._keys, np.arange(count))
        order = np.arange(count) if in_order else np.argsort(self._keys, kind="stable")
        if not in_order and not np.array_equal(self._keys[order], np.arange(count)):
            raise InputError(f"expected the keys 0 … {count - 1:,} in the .idx of {self.path}, found others; delete it")
        if identities_end >= _EXACT:
            # the ranges are rounded to float32: only the records tell what they are. An identity's has no picture
            first_labels, pictures = self._headers(order)
            return order[pictures], first_labels[pictures]
        images, raw = order[1:images_end], np.full(images_end, -1.0)
        for identity, position in enumerate(order[images_end:identities_end].tolist()):
            start, end = self._range(position)
            if not 1 <= start <= end <= images_end or (raw[start:end] >= 0).any():
                where = f"between 1 and {images_end:,} in {self._record_name(position)}"
                raise InputError(f"expected a range of its own {where}, found {start:,} … {end:,}; fetch it again")
            raw[start:end] = identity
        # where a picture is in no range, the headers know better
        return images, raw[1:] if (raw[1:] >= 0).all() else self._headers(images)[0]

    def _unpacked(self, position: int) -> tuple[Header, bytes]:
        return unpack(self.payload(position), self._record_name(position))

    def _range(self, position: int) -> tuple[int, int]:
        """The first record of an identity and that behind its last; in record 0, where pictures and identities end."""
        labels = self._unpacked(position)[0].labels
        if len(labels) != 2 or not all(label.is_integer() and label >= 0 for label in labels):
            raise InputError(f"expected two whole numbers in {self._record_name(position)}, found {labels}")
        return int(labels[0]), int(labels[1])

    def _headers(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """The first label of each record, a finite number, and whether a picture stands behind; read many at once."""
        labels, pictures = np.empty(len(positions)), np.empty(len(positions), np.bool_)
        words = np.frombuffer(self._map, np.uint32, self._size // 4)
        for at in range(0, len(positions), _CROWD):
            start = self._offsets[positions[at : at + _CROWD]] // 4
            short = start + 4 > len(words)  # it ends before its label
            start = np.where(short, 0, start)
            word, flag, label = words[start + 1], words[start + 2], words[start + 3].view(np.float32)
            length = word & np.uint32(MAX_PART)
            plain = (word >> 29 == WHOLE) & (flag == 0) & (length >= HEADER.size) & ~short
            labels[at : at + _CROWD] = label
            pictures[at : at + _CROWD] = (word >> 29 != WHOLE) | (length > HEADER.size + 4 * flag.astype(np.int64))
            for i in np.flatnonzero(~plain).tolist():
                labels[at + i] = self._unpacked(int(positions[at + i]))[0].labels[0]
            _release(self._map)
        if not np.isfinite(labels).all():
            wrong = int(np.argmin(np.isfinite(labels)))
            name = self._record_name(int(positions[wrong]))
            raise InputError(f"expected a finite label in {name}, found {labels[wrong]}")
        return labels, pictures


def kept_index(rec: Path) -> Path:
    """Where what an opening found is kept: beside the file, or in zoo's cache where its folder cannot be written to.

    The name tells the sizes and the times of change, so that no other state of the file is taken for this one.
    """
    facts = [file.stat() for file in (rec, rec.with_suffix(".idx")) if file.exists()]
    name = f".{rec.name}.{'-'.join(f'{fact.st_size:x}-{fact.st_mtime_ns:x}' for fact in facts)}.npz"
    if os.access(rec.parent, os.W_OK):
        return rec.parent / name
    folder = cache_folder("records")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(os.fsencode(rec.resolve())).hexdigest()[:16]}{name}"


def _read_index(index: Path, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """(keys, offsets) in the order of the offsets, or None where the file is no table of at most `most` pairs."""
    parts, count, rest = [], 0, b""
    with contextlib.suppress(OSError, ValueError, DeprecationWarning), warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy says so when it stops at a word that is no number
        with open(index, "rb") as file:
            while block := file.read(1 << 24):
                whole, _, rest = (rest + block).rpartition(b"\n") if file.peek(1) else (rest + block, b"", b"")
                if sum(whole.count(blank) for blank in b" \t\n\r\v\f") > 2 * (most - count):
                    return None
                parts.append(np.fromstring(whole, dtype=np.int64, sep=" "))
                count += len(parts[-1]) // 2
        if count and not rest and all(len(part) % 2 == 0 for part in parts):
            keys, offsets = (np.concatenate([part[column::2] for part in parts]) for column in (0, 1))
            del parts
            if (np.diff(offsets) < 0).any():
                order = np.argsort(offsets, kind="stable")
                keys, offsets = keys[order], offsets[order]
            unique = (np.diff(keys) > 0).all() or len(np.unique(keys)) == len(keys)
            if unique and offsets[0] >= 0 and keys.max() < np.iinfo(np.int64).max:  # what numpy makes of more digits
                return keys, offsets
    return None


def _release(content: mmap.mmap) -> None:
    """Takes the pages read so far out of this process's memory; the system still has them in its cache."""
    if hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED)


def _scan(content: mmap.mmap, name: str) -> npt.NDArray[np.int64]:
    """The offset of every record from the first byte to the last; InputError where they do not line up."""
    offsets = np.empty(1024, np.int64)
    count = position = 0
    while position < len(content):
        if count == len(offsets):
            if count > _CROWD and position < count * _LEAST_BYTES:
                found = f"found {count:,} records in its first {position:,} bytes; fetch it again"
                raise InputError(f"expected pictures in {name}, {found}")
            offsets.resize(count + max(count // 64, 1 << 16), refcheck=False)
            _release(content)
        offsets[count] = position
        count += 1
        magic, word = FRAME.unpack_from(content, position) if position + 8 <= len(content) else (0, 0)
        after = position + 8 + word + -word % 4  # of a record in one part, as nearly all are
        if magic != MAGIC or word > MAX_PART or after > len(content):
            after = end_of(content, position, len(content), f"{name}, record {count - 1:,} (byte {position:,})")
        position = after
    return offsets[:count].copy()
