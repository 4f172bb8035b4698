"""MXNet's RecordIO record by record: how one lies in the file, what precedes its picture, and a writer.

A record is magic, a word of 3 bits of part kind and 29 bits of length, the payload, and zeros up to 4 bytes. A payload
that contains the magic at an aligned place is split there into parts, and a reader puts the magic back. The payload
of a picture is `flag, label, id, id2`, then `flag` more labels, then the encoded picture.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from zoo.errors import InputError

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
WHOLE, _FIRST, _MIDDLE, _LAST = range(4)  #: The kinds of a record's parts
MAX_PART = (1 << 29) - 1
HEADER = struct.Struct("<IfQQ")
FRAME = struct.Struct("<II")  #: The magic, and the kind and length of a part


@dataclass(frozen=True)
class Header:
    """What precedes the picture in a record: insightface's IRHeader."""

    labels: tuple[float, ...]  #: The label, or all of them where the record says that it has several
    id: int  #: The record's key
    id2: int = 0  #: Unused by the field
    several: bool = False  #: Whether the labels are stored as a list, which even one label can be


def unpack(payload: bytes, name: str) -> tuple[Header, bytes]:
    """The header and the encoded picture of a record's payload; InputError, naming `name`, when it is too short."""
    if len(payload) < HEADER.size:
        found = f"found {len(payload)}; fetch the file again"
        raise InputError(f"expected a header of {HEADER.size} bytes in {name}, {found}")
    flag, label, key, key2 = HEADER.unpack_from(payload)
    start = HEADER.size + 4 * flag
    if start > len(payload):
        raise InputError(f"expected {flag:,} labels in {name}, found {len(payload):,} bytes; fetch the file again")
    labels = struct.unpack_from(f"<{flag}f", payload, HEADER.size) if flag else (label,)
    return Header(labels, key, key2, several=flag > 0), payload[start:]


def pack(header: Header, picture: bytes) -> bytes:
    """The payload of a record, as `mx.recordio.pack` makes it."""
    if not header.several:
        return HEADER.pack(0, header.labels[0], header.id, header.id2) + picture
    labels = struct.pack(f"<{len(header.labels)}f", *header.labels)
    return HEADER.pack(len(header.labels), 0.0, header.id, header.id2) + labels + picture


def frame(payload: bytes) -> bytes:
    """The payload as it lies in the file: split at each aligned magic, framed and padded, as dmlc-core writes it."""
    places = (4 * np.flatnonzero(np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC)).tolist()
    ends = zip([0, *(place + 4 for place in places)], [*places, len(payload)], strict=True)
    pieces = [payload[start:end] for start, end in ends]
    kinds = [_FIRST, *[_MIDDLE] * (len(pieces) - 2), _LAST] if places else [WHOLE]
    if (largest := max(map(len, pieces))) > MAX_PART:
        raise InputError(f"expected a record below {MAX_PART:,} bytes, found {largest:,}; leave that picture out")
    framed = [FRAME.pack(MAGIC, kind << 29 | len(piece)) + piece for kind, piece in zip(kinds, pieces, strict=True)]
    return b"".join(framed) + bytes(-len(payload) % 4)


class RecordWriter:
    """Writes payloads into `records` and their lines into `index`, byte for byte as MXIndexedRecordIO does."""

    def __init__(self, records: IO[bytes], index: IO[bytes]) -> None:
        self._records, self._index = records, index
        self._offset = 0

    def write(self, key: int, payload: bytes) -> None:
        """Appends one record under `key`."""
        framed = frame(payload)
        self._index.write(b"%d\t%d\n" % (key, self._offset))
        self._records.write(framed)
        self._offset += len(framed)


def parts(content: mmap.mmap, position: int, end: int, name: str) -> Iterator[tuple[int, int]]:
    """(start, length) of the payload of each part of the record at `position`; InputError where they do not line up."""
    kind, expected, what = _FIRST, (WHOLE, _FIRST), "the start of a record"
    while kind not in (WHOLE, _LAST):
        if end - position < 8:
            raise InputError(f"expected {name} to go on, found the end of the file: it is truncated; fetch it again")
        magic, word = FRAME.unpack_from(content, position)
        if magic != MAGIC:
            told = f"found {magic:#x}; fetch it again"
            raise InputError(f"expected the magic {MAGIC:#x} at byte {position:,} of {name}, {told}")
        kind, length = word >> 29, word & MAX_PART
        if position + 8 + length + -length % 4 > end:
            found = f"found {end - position - 8:,}: it is truncated or damaged; fetch it again"
            raise InputError(f"expected {length:,} bytes in {name}, {found}")
        if kind not in expected:
            raise InputError(f"expected {what} at byte {position:,} of {name}, found part kind {kind}")
        yield position + 8, length
        position += 8 + length + -length % 4
        expected, what = (_MIDDLE, _LAST), "a further part"


def end_of(content: mmap.mmap, position: int, end: int, name: str) -> int:
    """The offset behind the record at `position`, found without copying it."""
    for start, length in parts(content, position, end, name):
        after = start + length + -length % 4
    return after
