"""The finished work of a long run, record by record, so that a killed run resumes where it stopped."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from zoo.errors import InputError
from zoo.files import hold
from zoo.formats.photos import printable

MAGIC = b"zoo journal 1\n"
HEAD = struct.Struct("<III")
"""Before each record: the JSON's length, the blob's length, and the CRC-32 of both together."""
SYNC_SECONDS = 5.0
"""How often records are forced to the disk. A killed process loses none; a power cut loses the latest."""

Record = tuple[dict[str, Any], bytes]
"""A record's facts, as JSON holds them, and its bytes."""


class Journal:
    """An append-only file of records that were all made in the same way, which `identity` names.

    A record that was cut off while it was written is dropped at the next opening, with all that follows it.
    InputError where another process holds the journal, where the file is something else, and where its identity
    differs, as results of two models must not be mixed.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, object]) -> None:
        self.path = Path(path)
        self._file = self._open()
        try:
            _hold(self._file, self.path)
            self._end = self._first(identity)
            for _ in self._read():
                pass
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def records(self) -> Iterator[Record]:
        """Every whole record in the order of writing."""
        with open(self.path, "rb") as file:
            file.seek(self._body)
            while file.tell() < self._end:
                record = _read_record(file)
                assert record is not None, f"{self.path} changed while it was held"
                yield record

    def append(self, facts: dict[str, Any], blob: bytes = b"") -> None:
        """Adds a record; from then on no crash of this process can lose it."""
        text = json.dumps(facts, allow_nan=False).encode()
        self._file.write(HEAD.pack(len(text), len(blob), zlib.crc32(blob, zlib.crc32(text))) + text + blob)
        self._file.flush()
        self._end = self._file.tell()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def delete(self) -> None:
        """Removes the file, once its records are in their final place."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Forces the records to the disk and lets the next process in; a journal without records is removed."""
        if self._file.closed:
            return
        if self._end == self._body:
            self.delete()
            return
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> BinaryIO:
        try:
            return open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        except OSError as error:
            raise InputError(
                f"cannot write {printable(self.path)} ({error.strerror}); choose another folder for the output"
            ) from None

    def _first(self, identity: Mapping[str, object]) -> int:
        """Writes the identity into an empty journal, or compares it; where the records begin."""
        start = self._file.read(len(MAGIC))
        if start and not start.startswith(MAGIC) and not MAGIC.startswith(start):
            raise InputError(
                f"expected the journal of an interrupted run at {printable(self.path)}, found another file"
            )
        known = _read_record(self._file) if start == MAGIC else None
        if known is None:  # empty, or killed before its first record was whole
            self._file.seek(0)
            self._file.truncate()
            text = json.dumps(identity, sort_keys=True).encode()
            self._file.write(MAGIC + HEAD.pack(len(text), 0, zlib.crc32(text)) + text)
            self._file.flush()
            self._body = self._file.tell()
            return self._body
        differing = [key for key in {*known[0], *identity} if known[0].get(key) != identity.get(key)]
        if differing:
            raise InputError(
                f"expected to resume the interrupted run in {printable(self.path)}, but it was made with"
                f" another {', '.join(sorted(differing))}; repeat its options, or delete that file to start over"
            )
        self._body = self._file.tell()
        return self._body

    def _read(self) -> Iterator[Record]:
        self._file.seek(self._body)
        while (record := _read_record(self._file)) is not None:
            self._end = self._file.tell()
            yield record


def _read_record(file: BinaryIO) -> Record | None:
    """The record at the file's position; None at the end, or where it is not whole."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    text_length, blob_length, crc = HEAD.unpack(head)
    body = file.read(text_length + blob_length)
    if len(body) < text_length + blob_length or zlib.crc32(body) != crc:
        return None
    facts: dict[str, Any] = json.loads(body[:text_length])
    return facts, body[text_length:]


def _hold(file: BinaryIO, path: Path) -> None:
    """Locks the journal: two writers would mix their records."""
    if not hold(file):
        raise InputError(f"another process is working on {printable(path)}; wait for it, or stop it first")
