"""The audit log: every enrolment and removal, in a chain of hashes, about people whom it does not name.

A line is a JSON object. `previous` is the hash of the line before and `hash` that of the line itself, so that a line
that was changed, moved or taken out breaks the chain at its place; the newest hash is the answer to each change, by
which whoever keeps it proves that the end was not cut off. `person` is HMAC-SHA256 of the name with a random key of
that person. The keys lie in a file of their own, from which a person's key goes with the person: the log then tells
that somebody was enrolled and removed, and nobody can tell who.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.files import write_bytes

START = "0" * 64  #: What the first line follows


class AuditLog:
    """The log beside a gallery: GALLERY.audit.jsonl and GALLERY.keys. Its caller holds the gallery's lock."""

    def __init__(self, gallery: Path) -> None:
        self.path = gallery.with_name(gallery.name + ".audit.jsonl")
        self.key_file = gallery.with_name(gallery.name + ".keys")

    def append(self, action: str, name: str, people: int, photos: int) -> str:
        """Adds a line, forced to the disk, and returns its hash; `people` and `photos` count those after the change."""
        record: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "action": action}
        record |= {"person": self._person(name), "people": people, "photos": photos, "previous": self._last_hash()}
        record["hash"] = digest(record)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(record).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return str(record["hash"])

    def names(self) -> list[str]:
        """Everybody whose key is kept."""
        return list(self._keys())

    def keep(self, names: Iterable[str]) -> None:
        """Forgets the keys of everybody who is not among `names`."""
        keys = self._keys()
        kept = {name: keys[name] for name in names if name in keys}
        if kept != keys:
            self._write(kept)

    def _person(self, name: str) -> str:
        keys = self._keys()
        if name not in keys:
            keys[name] = secrets.token_hex(32)
            self._write(keys)
        return hmac.new(bytes.fromhex(keys[name]), name.encode(), hashlib.sha256).hexdigest()

    def _keys(self) -> dict[str, str]:
        text = self.key_file.read_text(encoding="utf-8") if self.key_file.exists() else ""
        keys: dict[str, str] = json.loads(text or "{}")
        return keys

    def _write(self, keys: dict[str, str]) -> None:
        self.key_file.touch(0o600)
        write_bytes(self.key_file, json.dumps(keys).encode())

    def _last_hash(self) -> str:
        """The hash of the last whole line; what a killed process left half-written after it is cut off."""
        if not self.path.exists():
            return START
        with open(self.path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            if len(whole) < len(tail):
                file.truncate(size - len(tail) + len(whole))
        lines = whole.splitlines()
        return str(json.loads(lines[-1])["hash"]) if lines else START


def digest(record: dict[str, Any]) -> str:
    """The SHA-256 of a line's members but its own hash, in hex."""
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_audit(path: str | Path) -> tuple[int, str]:
    """How many lines an audit log has, and the newest hash; InputError that names the first line that does not fit."""
    previous, number = START, 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                fits = record["previous"] == previous and record["hash"] == digest(record)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                found = f"found that line {number} does not follow the one before"
                how = "it was changed, or lines were added or taken out there"
                raise InputError(f"expected an unbroken chain in {path}, {found}: {how}")
            previous = record["hash"]
    return number, previous
