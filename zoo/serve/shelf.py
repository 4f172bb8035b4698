"""One gallery that several workers read and change: always the newest, changed one at a time, logged, on disk first."""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.files import write_bytes
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition.journal import Held, Journal, partial_of
from zoo.recognition.store import QdrantStore, Store, StoreError, beside, in_engine
from zoo.serve.problems import Problem, busy

START = "0" * 64  #: What the first line follows
LONGEST_NAME = 200  #: Characters of a name
REFUSED = {"Cc", "Cs", "Zl", "Zp"}  #: Unicode categories of no name: control characters, surrogates, line separators
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows: a name with them may look like another one."""


class AuditLog:
    """The log beside a gallery, GALLERY.audit.jsonl: every enrolment and removal, about people whom it does not name.

    A line is a JSON object. `previous` is the hash of the line before and `hash` that of the line itself, so that a
    line that was changed, moved or taken out breaks the chain at its place; the newest hash is the answer to each
    change, by which whoever keeps it proves that the end was not cut off. `person` is HMAC-SHA256 of the name with a
    random key of that person. The keys lie in GALLERY.keys, from which a person's key goes with the person: the log
    then tells that somebody was enrolled and removed, and nobody can tell who. The caller holds the gallery's lock.
    """

    def __init__(self, gallery: Path) -> None:
        self.path = gallery.with_name(gallery.name + ".audit.jsonl")
        self.key_file = gallery.with_name(gallery.name + ".keys")

    def append(self, action: str, name: str, people: int, photos: int) -> str:
        """Adds a line, forced to the disk, and returns its hash; `people` and `photos` count those after the change."""
        keys = self.keys()
        if name not in keys:
            keys[name] = secrets.token_hex(32)
            self._write(keys)
        person = hmac.new(bytes.fromhex(keys[name]), name.encode(), hashlib.sha256).hexdigest()
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            whole, _, half = file.read().rpartition(b"\n")
            file.truncate(file.tell() - len(half))  # what a killed process left half-written
            previous = json.loads(whole.splitlines()[-1])["hash"] if whole else START
            record: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "action": action}
            record |= {"person": person, "people": people, "photos": photos, "previous": previous}
            record["hash"] = digest(record)
            file.write(json.dumps(record).encode() + b"\n")
            os.fsync(file.fileno())
        return str(record["hash"])

    def keep(self, names: Iterable[str]) -> None:
        """Forgets the keys of everybody who is not among `names`."""
        keys = self.keys()
        kept = {name: keys[name] for name in names if name in keys}
        if kept != keys:
            self._write(kept)

    def keys(self) -> dict[str, str]:
        """The key of each person by name."""
        text = self.key_file.read_text(encoding="utf-8") if self.key_file.exists() else ""
        return dict(json.loads(text or "{}"))

    def _write(self, keys: dict[str, str]) -> None:
        self.key_file.touch(0o600)
        write_bytes(self.key_file, json.dumps(keys).encode())


def digest(record: dict[str, Any]) -> str:
    """The SHA-256 of a line's members but its own hash, in hex."""
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_audit(path: str | Path) -> tuple[int, str]:
    """How many lines an audit log has, and the newest hash; InputError that names the first line that does not fit."""
    previous, number = START, 0
    with explained(f"expected an audit log at {path}, cannot read it", OSError), open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                fits = record["previous"] == previous and record["hash"] == digest(record)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                how = "does not follow the one before: it was changed, or lines were added or taken out there"
                raise InputError(f"expected an unbroken chain in {path}, found that line {number} {how}")
            previous = record["hash"]
    return number, previous


class Change(NamedTuple):
    """What an enrolment or a removal did."""

    people: int  #: People in the gallery afterwards
    photos: int  #: Photos of the person afterwards
    audit: str  #: The hash of the line in the audit log; empty where nothing changed


class Shelf:
    """A gallery file or collection. `current` may be called by any thread; changes need `writable`."""

    def __init__(self, place: str | Path, verifier: FaceVerifier, writable: bool, wait: float = 10.0) -> None:
        self.path, self.verifier, self.writable, self.wait = beside(place), verifier, writable, wait
        self.audit, self._guard = AuditLog(self.path), threading.Lock()
        self._opened: tuple[object, Gallery] | None = None
        self._shared = QdrantStore.at(str(place), verifier if writable else None) if in_engine(place) else None
        if self._shared is not None:
            self._shared.require(verifier)
        elif not self.path.exists() and writable:
            with self._locked():
                if not self.path.exists():
                    Gallery.empty(verifier.dim, verifier.how()).save(self.path)
                    self.path.chmod(0o600)
        self.current()

    def current(self) -> Store:
        """The gallery as it is on the disk at this moment; opening a new file reads its header alone."""
        return self._newest() if self._shared is None else self._shared

    def _newest(self) -> Gallery:
        with self._guard:
            with explained(f"expected a gallery at {self.path}, cannot read it", OSError):
                stat = os.stat(self.path)
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._opened is None or self._opened[0] != stamp:
                gallery = Gallery.open(self.path)
                gallery.require(self.verifier)
                self._opened = (stamp, gallery)
            return self._opened[1]

    def enrol(self, name: str, sha256: str, embedding: npt.NDArray[np.float32]) -> Change:
        """Adds one photo; once this returns, neither a kill nor a power cut loses it."""

        def add(gallery: Gallery) -> Gallery:
            return gallery if (name, sha256) in gallery.owned([name]) else gallery.extended([(name, sha256, embedding)])

        return self._change("enrol", name, add)

    def remove(self, name: str, sha256: str | None = None) -> Change:
        """Removes one photo of a person, or the person with template, photos' hashes and the key of the audit log.

        A person goes with the last photo. 404 where there is none of that name, or no such photo.
        """

        def drop(gallery: Gallery) -> Gallery:
            photos = self.photos(gallery, name)
            if sha256 is not None and sha256 not in photos:
                raise Problem(404, "expected the SHA-256 of a photo of this person, found another one")
            return gallery.without([(name, photo) for photo in photos if sha256 in (None, photo)])

        return self._change("remove" if sha256 is None else "remove photo", name, drop)

    def photos(self, gallery: Store, name: str) -> list[str]:
        """The SHA-256 of each of a person's photos, in hex; 404 where there is no such person."""
        found = [sha256 for _, sha256 in gallery.owned([name])]
        if not found:
            told = "found none of that name; names are case-sensitive"
            raise Problem(404, f"expected the name of a person in the gallery, {told}")
        return found

    def name_in(self, text: str) -> str:
        """The gallery's own name where `text` differs in composition alone, else it in NFC; 422 for what is no name."""
        composed = unicodedata.normalize("NFC", text)
        if (
            not 0 < len(composed) <= LONGEST_NAME
            or composed != composed.strip()
            or composed in (".", "..")
            or "\ufffd" in composed
            or any(unicodedata.category(letter) in REFUSED or letter in TURNING for letter in composed)
        ):
            without = "without control characters and without spaces around it"
            raise Problem(422, f"expected a name of 1 to {LONGEST_NAME} characters, {without}, found something else")
        alike = dict.fromkeys((text, *(unicodedata.normalize(form, composed) for form in ("NFC", "NFD"))))
        there = {name for name, _ in self.current().owned(alike)}
        return next((name for name in alike if name in there), composed)

    def _change(self, action: str, name: str, change: Callable[[Gallery], Gallery]) -> Change:
        """Under the lock: the newest gallery, changed, with the line in the log before the new file takes its place.

        So no change is without a line; after a kill in between, the last line states one that was never acknowledged.
        """
        if not self.writable:
            raise Problem(403, "this server is read-only: it was started without --enrol")
        before, lines = list[Gallery](), list[str]()

        def log(what: str, gallery: Gallery) -> None:
            lines.append(self.audit.append(what, name, len(gallery), len(gallery.photo_people)))

        def logged(old: Gallery) -> Gallery:
            before.append(old)
            new = change(old)
            if new is not old:
                if lines:  # another server was faster
                    log(f"{action} failed", old)
                log(action, new)
            return new

        with self._locked() as journal:
            try:
                if self._shared is not None:
                    self._shared.change([name], logged)
                elif (new := logged(self._newest())) is not before[-1]:
                    new.save(self.path)
            except BaseException:  # a full disk
                if lines:
                    log(f"{action} failed", before[-1])
                raise
            now = self.current()
            photos = len(now.owned([name]))
            if lines:
                self.audit.keep({owner for owner, _ in now.owned(self.audit.keys())})
            if not photos:  # nor may an interrupted `zoo index` bring a removed person back
                journal.keep(lambda record: record.get("person") != name)
            return Change(len(now), photos, lines[-1] if lines else "")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Journal]:
        """The right to change the gallery, against threads and processes; 503 where it does not come in time."""
        deadline, journal = time.monotonic() + self.wait, None
        while journal is None:
            try:
                journal = Journal(partial_of(self.path), None)  # which `zoo index` holds too
            except Held:
                if time.monotonic() > deadline:
                    raise busy(1, "another change of the gallery is under way; try again later") from None
                time.sleep(0.005)
            except InputError as error:
                raise StoreError(str(error)) from None
        with journal:
            yield journal
