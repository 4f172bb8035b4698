"""One gallery file that several workers read and change: always the newest, changed by one at a time, on disk first."""

import contextlib
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition.index import partial_of
from zoo.recognition.journal import Journal
from zoo.serve.audit import AuditLog
from zoo.serve.problems import Problem, busy

LONGEST_NAME = 200
"""Characters of a name."""
REFUSED = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories that no name has: control characters, surrogates and line separators."""
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows: a name with them may look like another one."""


@dataclass(frozen=True)
class Change:
    """What an enrolment or a removal did."""

    people: int
    """People in the gallery afterwards."""
    photos: int
    """Photos of the person afterwards."""
    changed: bool
    """False where the gallery held that photo already."""
    audit: str
    """The hash of the line in the audit log; empty where nothing changed."""

    def facts(self) -> dict[str, int | str]:
        """The change as JSON holds it."""
        return {"people": self.people, "photos": self.photos, "audit": self.audit}


class Shelf:
    """A gallery file. `current` may be called by any thread; changes need `writable`."""

    def __init__(self, path: Path, verifier: FaceVerifier, writable: bool, wait: float = 10.0) -> None:
        self.path, self.verifier, self.writable, self.wait = path, verifier, writable, wait
        self.audit = AuditLog(path)
        self._guard = threading.Lock()
        self._opened: tuple[object, Gallery] | None = None
        if not path.exists() and writable:
            with self._locked():
                if not path.exists():
                    Gallery.empty(verifier.dim, verifier.how()).save(path)
        self.current()

    def current(self) -> Gallery:
        """The gallery as it is on the disk at this moment; opening a new one reads its header alone."""
        with self._guard:
            try:
                stat = os.stat(self.path)
            except OSError as error:
                raise InputError(f"expected a gallery at {self.path}, cannot read it ({error.strerror})") from None
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._opened is None or self._opened[0] != stamp:
                gallery = Gallery.open(self.path)
                gallery.require(self.verifier)
                self._opened = (stamp, gallery)
            return self._opened[1]

    def enrol(self, name: str, sha256: str, embedding: npt.NDArray[np.float32]) -> Change:
        """Adds one photo; once this returns, neither a kill nor a power cut loses it."""

        def add(gallery: Gallery) -> Gallery:
            known = (name, sha256) in gallery.owned()
            return gallery if known else gallery.extended([(name, sha256, embedding)])

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

    def photos(self, gallery: Gallery, name: str) -> list[str]:
        """The SHA-256 of each of a person's photos, in hex; 404 where there is no such person."""
        found = [sha256 for owner, sha256 in gallery.owned() if owner == name]
        if not found:
            raise Problem(
                404, "expected the name of a person in the gallery, found none of that name; names are case-sensitive"
            )
        return found

    def name_in(self, text: str) -> str:
        """The name that `text` stands for: the gallery's own where they differ in composition alone, else NFC.

        422 for what is no name.
        """
        composed = unicodedata.normalize("NFC", text)
        if (
            not 0 < len(composed) <= LONGEST_NAME
            or composed != composed.strip()
            or composed in (".", "..")
            or "\ufffd" in composed
            or any(unicodedata.category(letter) in REFUSED or letter in TURNING for letter in composed)
        ):
            raise Problem(
                422,
                f"expected a name of 1 to {LONGEST_NAME} characters, without control characters and without spaces"
                " around it, found something else",
            )
        same = [name for name in self.current().names() if unicodedata.normalize("NFC", name) == composed]
        return text if text in same else (same or [composed])[0]

    def _change(self, action: str, name: str, change: Callable[[Gallery], Gallery]) -> Change:
        """Under the lock: the newest gallery, changed, with the line in the log before the new file takes its place.

        So there is no change without a line; after a kill in between, the log's last line states one that was not
        made and was never acknowledged.
        """
        if not self.writable:
            raise Problem(403, "this server is read-only: it was started without --enrol")
        with self._locked() as journal:
            old = self.current()
            new = change(old)
            if new is old:
                return Change(len(old), len(self.photos(old, name)), False, "")
            line = self.audit.append(action, name, len(new), len(new.photo_people))
            try:
                new.save(self.path)
            except BaseException:  # a full disk
                self.audit.append(f"{action} failed", name, len(old), len(old.photo_people))
                raise
            counts = new.photo_counts()
            self.audit.keep(counts)
            if name not in counts:  # nor may an interrupted `zoo index` bring a removed person back
                journal.keep(lambda record: record.get("person") != name)
            return Change(len(new), counts.get(name, 0), True, line)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Journal]:
        """The right to change the gallery, against threads and processes; 503 where it does not come in time."""
        deadline, journal = time.monotonic() + self.wait, None
        while journal is None:
            try:
                journal = Journal(partial_of(self.path), None)  # which `zoo index` holds too
            except InputError:
                if time.monotonic() > deadline:
                    raise busy(1, "another change of the gallery is under way; try again later") from None
                time.sleep(0.005)
        with journal:
            yield journal
