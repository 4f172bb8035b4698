"""Where known people are kept: in a gallery file, or in a collection of Qdrant that several services share.

A place is a FILE, or qdrant:LOCATION/COLLECTION with the URL of a server (QDRANT_API_KEY holds its key) or the folder
of Qdrant's local mode, which one process at a time may open. A collection holds one point per person: the template as
its vector, everything else that a gallery file has as its payload.
"""

from __future__ import annotations

import atexit
import base64
import os
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained, needs
from zoo.recognition.gallery import FORMAT, Gallery, Ranked, packed_names
from zoo.recognition.verifier import FaceVerifier

if TYPE_CHECKING:
    from zoo.faces.finder import Picture
    from zoo.recognition.identify import Identification

Place = str | Path
SCHEME = "qdrant:"
LOCAL = threading.Lock()  #: Held by each request to a local mode, which takes one at a time
LEAST_SERVER = (1, 17)  #: The first version whose writes can depend on what is there; earlier ones write regardless
AT_ONCE = 256  #: People that one request reads or writes


class StoreError(InputError):
    """An engine that cannot be reached, or does not answer as it should."""


def store_at(place: Place) -> Store:
    """The people at a place; InputError where there are none."""
    return QdrantStore.at(str(place)) if in_engine(place) else Gallery.open(place)


def in_engine(place: Place) -> bool:
    """Whether a place is a collection of an engine, not a file."""
    return str(place).startswith(SCHEME)


def beside(place: Place) -> Path:
    """What journals and logs lie beside: the file, or the collection's name in FOLDER or else the working folder."""
    location, _, name = str(place).removeprefix(SCHEME).rpartition("/")
    return Path("" if "://" in location else location, name) if in_engine(place) else Path(place)


@dataclass(frozen=True, eq=False)
class QdrantStore:
    """People in a collection of Qdrant. Unlike a `Gallery` it changes, for everybody who shares the collection.

    Each person is changed at once or not at all: a write holds only where the person is still as it was read, and is
    otherwise made again from what others wrote. A removal that crosses an enrolment wins.
    """

    client: Any  #: A `qdrant_client.QdrantClient`
    collection: str
    dim: int
    facts: dict[str, Any]
    remote: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def at(cls, place: str, verifier: FaceVerifier | None = None) -> Self:
        """The store at qdrant:LOCATION/COLLECTION, made for a `verifier`; InputError where it cannot be opened."""
        location, _, name = place.removeprefix(SCHEME).rpartition("/")
        if not location or not name:
            raise InputError(f"expected qdrant:URL/COLLECTION or qdrant:FOLDER/COLLECTION, found {place}")
        with needs("qdrant-client", "qdrant", f"to open {place}"):
            from qdrant_client import QdrantClient, models
        remote = "://" in location
        if not remote and verifier is None and not Path(location, "meta.json").is_file():
            raise InputError(f"expected people at {place}, found none; add some with `zoo index`")
        options: dict[str, Any] = {"url": location, "api_key": os.environ.get("QDRANT_API_KEY")}
        with _told(place):
            client = QdrantClient(**{**options, "check_compatibility": False} if remote else {"path": location})
            atexit.register(client.close)
            version = client.info().version if remote else ""
            if remote and tuple(map(int, version.split(".")[:2])) < LEAST_SERVER:
                raise InputError(f"expected a server of version {'.'.join(map(str, LEAST_SERVER))}, found {version}")
            if verifier and not client.collection_exists(name):
                made = {"format": FORMAT, "facts": verifier.how()}
                vectors = models.VectorParams(size=verifier.dim, distance=models.Distance.DOT)
                client.create_collection(name, vectors_config=vectors, metadata=made)
            config: Any = client.get_collection(name).config
        about = config.metadata or {}
        if about.get("format") != FORMAT:
            raise InputError(f"expected a collection of `zoo index` at {place}, found another one")
        return cls(client, name, config.params.vectors.size, about["facts"], remote)

    def _ask(self, method: str, *given: Any, **options: Any) -> Any:
        with _told(self.collection), nullcontext() if self.remote else LOCAL:
            return getattr(self.client, method)(self.collection, *given, **options)

    def __len__(self) -> int:
        return int(self._ask("count").count)

    def require(self, verifier: FaceVerifier) -> list[str]:
        return Gallery.empty(self.dim, self.facts).require(verifier)

    def ranked(self, queries: npt.NDArray[np.float32], k: int = 1) -> list[Ranked]:
        """As `Gallery.ranked`, and as exact: the engine compares a query with every template."""
        from qdrant_client import models

        exact = models.SearchParams(exact=True) if self.remote else None  # the local mode knows no other search
        how: dict[str, Any] = {"limit": k, "with_payload": ["name"], "params": exact}
        answers = self._ask("query_batch_points", [models.QueryRequest(query=one, **how) for one in queries.tolist()])
        return [tuple((point.payload["name"], float(point.score)) for point in one.points) for one in answers]

    def identify(self, picture: Picture, verifier: FaceVerifier, **options: Any) -> Identification:
        from zoo.recognition.identify import identify

        return identify(self, picture, verifier, **options)

    def photo_counts(self) -> dict[str, int]:
        return {one.payload["name"]: len(one.payload["hashes"]) for one in self._points(None, ["name", "hashes"])}

    def owned(self, people: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Every photo, or those of these people: its person's name and its SHA-256 in hex."""
        found = self._points(people, ["name", "hashes"])
        return [(one.payload["name"], digest) for one in found for digest in one.payload["hashes"]]

    def change(self, people: Collection[str], change: Callable[[Gallery], Gallery]) -> tuple[Gallery, Gallery]:
        """Replaces these people by what `change` makes of them; returns them as they were and are.

        `change` takes and returns a gallery in memory of those of them who are there, and nobody else. It is called
        again where somebody else has changed one of them meanwhile.
        """
        while True:
            points, mark = list(self._points(people)), uuid.uuid4().hex
            old = self._gallery(points)
            new = change(old)
            versions = {point.payload["name"]: point.payload["version"] for point in points}
            touched = sorted({name for name, _ in {*old.owned()} ^ {*new.owned()}})
            for names in _parts(touched):
                self._write(new, names, versions, mark)
            found = {one.payload["name"]: one.payload["version"] for one in self._points(touched, ["name", "version"])}
            if all(found.get(name, mark) == mark for name in touched):
                return old, new

    def _write(self, new: Gallery, names: Sequence[str], versions: dict[str, str], mark: str) -> None:
        """Writes or deletes people, each where its version is that of `versions`."""
        from qdrant_client import models

        place = {name: number for number, name in enumerate(new.names())}

        def still(name: str) -> Any:
            known = models.FieldCondition(key="version", match=models.MatchValue(value=versions[name]))
            return models.Filter(must=[models.HasIdCondition(has_id=[_key(name)]), known])

        writes: list[Any] = []
        for name in names:
            if name not in place:
                writes.append(models.DeleteOperation(delete=models.FilterSelector(filter=still(name))))
                continue
            person = place[name]
            rows = new.photo_people == person
            values = base64.b64encode(new.photo_values[rows].tobytes()).decode()
            hashes = [row.tobytes().hex() for row in new.photo_hashes[rows]]
            payload = {"name": name, "version": mark, "length": float(new.lengths[person])}
            payload |= {"hashes": hashes, "values": values, "scales": new.photo_scales[rows].tolist()}
            point = models.PointStruct(id=_key(name), vector=new.templates[person].tolist(), payload=payload)
            mode = models.UpdateMode.UPDATE_ONLY if name in versions else models.UpdateMode.INSERT_ONLY
            condition = still(name) if name in versions else None
            put = models.PointsList(points=[point], update_filter=condition, update_mode=mode)
            writes.append(models.UpsertOperation(upsert=put))
        self._ask("batch_update_points", writes, wait=True)

    def _points(self, people: Collection[str] | None, payload: Sequence[str] = ()) -> Iterator[Any]:
        """Of these people, or all, those who are there: with this payload alone, or whole and with the template."""
        options: dict[str, Any] = {"with_payload": [*payload] or True, "with_vectors": not payload}
        for names in _parts(people or ()):
            yield from self._ask("retrieve", [_key(name) for name in names], **options)
        more, after = people is None, None
        while more:
            page, after = self._ask("scroll", limit=AT_ONCE, offset=after, **options)
            yield from page
            more = after is not None

    def _gallery(self, points: Sequence[Any]) -> Gallery:
        facts = [point.payload for point in points]
        counts = np.array([len(one["hashes"]) for one in facts], np.int32)
        templates = np.array([point.vector for point in points], np.float32).reshape(-1, self.dim)
        lengths = np.array([one["length"] for one in facts], np.float32)
        hashes = bytes.fromhex("".join(digest for one in facts for digest in one["hashes"]))
        owners = np.repeat(np.arange(len(points), dtype=np.int32), counts)
        values = np.frombuffer(b"".join(base64.b64decode(one["values"]) for one in facts), np.int8)
        scales = np.array([scale for one in facts for scale in one["scales"]], np.float32)
        names = packed_names([one["name"] for one in facts])
        photos: Any = np.frombuffer(hashes, np.uint8).reshape(-1, 32), owners, values.reshape(-1, self.dim), scales
        return Gallery(self.facts, templates, lengths, counts, *names, *photos)


def _told(place: str) -> AbstractContextManager[None]:
    """Any error of the client, whose errors have no common kind, as a StoreError."""
    return explained(f"expected people at {place}, but Qdrant does not answer as it should", Exception, kind=StoreError)


def _parts(people: Collection[str]) -> Iterator[list[str]]:
    names = list(people)
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))


def _key(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


Store = Gallery | QdrantStore  #: Known people and their templates, wherever they are kept
