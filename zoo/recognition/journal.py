"""The finished work of a long run, a JSON line for each record, so that a killed run resumes where it stopped."""

import contextlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError, explained
from zoo.files import hold
from zoo.formats.images import printable

HEAD = b'{"how": '  #: How a journal begins
CHECKSUM = "crc32"  #: A line's last member: the CRC-32 of the line without it
SYNC_SECONDS = 5.0  #: How often records are forced to disk. A killed process loses none; a power cut the latest

Record = dict[str, Any]


class Held(InputError):
    """A journal that another process holds."""


class Journal(contextlib.AbstractContextManager["Journal"]):
    """An append-only file of records that were all made in the same way, which its first line states as `how`.

    A line that is cut off or damaged is dropped at the next opening, with all that follow it. InputError where another
    process holds the journal, where the file is something else, and where it was made in another way, as results of two
    models must not be mixed.
    """

    def __init__(self, path: str | Path, how: Mapping[str, object] | None) -> None:
        """`how` None takes the journal as it was made: for who prunes it, or keeps others out."""
        self.path, self._synced, self._empty = Path(path), time.monotonic(), True
        with explained(f"cannot write {printable(path)}", OSError, advice="choose another folder for the output"):
            self._file = open(self.path, "a+b")  # noqa: SIM115 - held as long as the journal
        with contextlib.ExitStack() as failed:
            failed.callback(self._file.close)
            self._resume(how)
            failed.pop_all()

    def _resume(self, how: Mapping[str, object] | None) -> None:
        name = printable(self.path)
        try:  # another process may have the file, or have had it and deleted it
            held = hold(self._file) and os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            held = False
        if not held:
            raise Held(f"another process is working on {name}; wait for it, or stop it first")
        self._file.seek(0)
        first = self._file.readline()
        if not HEAD.startswith(first[: len(HEAD)]):
            raise InputError(f"expected the journal of an interrupted run at {name}, found another file")
        made = _parsed(first)
        if made is None:  # new, or killed before its first line was whole
            self._file.truncate(0)
            self._write({"how": how or {}})
            return
        before = made["how"]
        now = before if how is None else json.loads(_text(how))
        if differing := sorted(key for key in {*before, *now} if before.get(key) != now.get(key)):
            why = f"another {', '.join(differing)}; repeat its options, or delete that file to start over"
            raise InputError(f"expected to resume the interrupted run in {name}, but it was made with {why}")
        end = len(first)
        for line in self._file:
            if _parsed(line) is None:
                break
            end += len(line)
            self._empty = False
        self._file.truncate(end)

    def records(self) -> Iterator[Record]:
        """Every record in the order of writing."""
        with open(self.path, "rb") as file:
            file.readline()
            for line in file:
                record = _parsed(line)
                assert record is not None, f"{self.path} changed while it was held"
                yield record

    def append(self, record: Record) -> None:
        """Adds a record; from then on no crash of this process can lose it."""
        self._write(record)
        self._empty = False
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _write(self, record: Record) -> None:
        self._file.write(_text({**record, CHECKSUM: zlib.crc32(_text(record))}) + b"\n")
        self._file.flush()

    def keep(self, wanted: Callable[[Record], bool]) -> None:
        """Drops all records but the `wanted` ones, in place, so that the lock stays."""
        kept = [record for record in self.records() if wanted(record)]
        self._file.seek(0)
        self._file.truncate(len(self._file.readline()))
        self._empty = True
        for record in kept:
            self.append(record)
        os.fsync(self._file.fileno())

    def delete(self) -> None:
        """Removes the file, once its records are in their final place."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def __exit__(self, *error: object) -> None:
        """Forces the records to the disk and lets the next process in; a journal without records is removed."""
        if self._empty and not self._file.closed:
            self.delete()
        elif not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


@contextlib.contextmanager
def spare_journal() -> Iterator[Journal]:
    """An empty journal of work that nobody resumes."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "journal"), {}) as journal:
        yield journal


def _text(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode()


def _parsed(line: bytes) -> Record | None:
    """The record of a whole line; None for a damaged one. The crops' logs of earlier versions have no checksums."""
    try:
        record: Record = json.loads(line)
        checksum = record.pop(CHECKSUM, None)
    except (ValueError, AttributeError):
        return None
    return record if line.endswith(b"\n") and checksum in (None, zlib.crc32(_text(record))) else None
