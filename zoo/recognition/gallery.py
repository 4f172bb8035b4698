"""A gallery of known people: one template per person, searched exactly, in one memory-mapped file."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.formats.photos import printable
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import identity
from zoo.recognition.enrol import EnrolledPhoto, enrol, people_in
from zoo.recognition.journal import Journal
from zoo.recognition.search import Hits, search
from zoo.recognition.threshold import Decision, decide_identification
from zoo.recognition.verifier import FaceCrop, FaceVerifier, Picture

FORMAT = "zoo gallery 1"
ROWS_AT_ONCE = 16_384
"""Rows of an array copied at once when a memory map is saved."""

DTYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64, "U8": np.uint8}


@dataclass(frozen=True)
class IdentifiedFace:
    """One face of a picture and the people it resembles."""

    crop: FaceCrop
    """The face."""
    candidates: tuple[tuple[str, float], ...]
    """The most similar people and their similarities, best first."""
    name: str | None
    """The best candidate's name where it is above the threshold; None for an unknown face, and without a threshold."""


@dataclass(frozen=True)
class Identification:
    """The faces of a picture, identified in a gallery."""

    faces: tuple[IdentifiedFace, ...]
    decision: Decision
    """The threshold and where it comes from."""
    people: int
    """How many people the gallery holds."""
    notes: tuple[str, ...] = ()
    """What was odd about the photos of the gallery, one sentence each."""

    def to_json(self) -> str:
        """One JSON object, as `zoo identify --json` prints it."""
        answer = {
            "people": self.people,
            "threshold": self.decision.threshold,
            "origin": self.decision.origin,
            "faces": [
                {
                    "box": face.crop.face.box if face.crop.face else None,
                    "identified": face.name,
                    "candidates": [{"name": name, "similarity": similarity} for name, similarity in face.candidates],
                    "notes": face.crop.notes,
                }
                for face in self.faces
            ],
            "notes": self.notes,
        }
        return json.dumps(answer, indent=2)


@dataclass(frozen=True)
class Gallery:
    """People and their templates. A template is the mean of a person's unit embeddings, made unit-length again.

    A gallery never changes: `add`, `extended` and `remove` return another one. All arrays may be memory maps: opening a
    gallery reads nothing but its header.
    """

    facts: dict[str, str | bool]
    """How the embeddings were made: model (hash), flip, alignment, face rule, detector (hash)."""
    templates: npt.NDArray[np.float32]
    """(people, dim), unit-length."""
    lengths: npt.NDArray[np.float32]
    """(people,): the norm of each mean before it was made unit-length, so that photos can be added later."""
    photos: npt.NDArray[np.int32]
    """(people,): how many photos each template averages."""
    name_bytes: npt.NDArray[np.uint8]
    """All names as UTF-8, one after the other."""
    name_ends: npt.NDArray[np.int64]
    """(people,): where each name ends in `name_bytes`."""
    photo_hashes: npt.NDArray[np.uint8]
    """(photos, 32): the SHA-256 of each photo's file."""
    photo_people: npt.NDArray[np.int32]
    """(photos,): the index of the person whose photo it is."""
    notes: tuple[str, ...] = ()
    """What was odd about the photos of the last `add`, one sentence each; not saved."""

    @classmethod
    def empty(cls, dim: int, facts: dict[str, str | bool]) -> Gallery:
        """A gallery without people."""
        return cls(
            facts,
            np.empty((0, dim), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            np.empty(0, np.uint8),
            np.empty(0, np.int64),
            np.empty((0, 32), np.uint8),
            np.empty(0, np.int32),
        )

    def __len__(self) -> int:
        return len(self.templates)

    @property
    def dim(self) -> int:
        """The dimension of a template."""
        return int(self.templates.shape[1])

    def name(self, person: int) -> str:
        """A person's name."""
        start = int(self.name_ends[person - 1]) if person else 0
        return self.name_bytes[start : int(self.name_ends[person])].tobytes().decode()

    def names(self) -> list[str]:
        """Every name, in order."""
        content, ends = self.name_bytes.tobytes(), self.name_ends.tolist()
        return [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]

    def photo_counts(self) -> dict[str, int]:
        """How many photos each person's template averages, by name."""
        return dict(zip(self.names(), self.photos.tolist(), strict=True))

    def hashes(self) -> set[str]:
        """The SHA-256 of every photo, as hex digits."""
        return {row.tobytes().hex() for row in self.photo_hashes}

    def search(self, queries: npt.NDArray[np.float32], k: int = 1) -> Hits:
        """The `k` most similar people of each query, best first, and their cosines: both (queries, min(k, people)).

        `queries` are unit-length (queries, dim). Exact; the lower index wins a tie.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InputError(
                f"expected embeddings of dimension {self.dim}, as in the gallery, found shape {queries.shape}"
            )
        return search(self.templates, queries, k)

    def extended(self, photos: Iterable[EnrolledPhoto]) -> Gallery:
        """This gallery with more photos, each (name, SHA-256 in hex, unit embedding (dim,)); new names are appended.

        A photo that a person has already is not counted again.
        """
        names = self.names()
        place = {name: number for number, name in enumerate(names)}
        known = {(row.tobytes().hex(), int(p)) for row, p in zip(self.photo_hashes, self.photo_people, strict=True)}
        sums: dict[int, npt.NDArray[np.float64]] = {}
        added: dict[int, int] = {}
        hashes: list[bytes] = []
        people: list[int] = []
        for name, digest, embedding in photos:
            person = place.setdefault(name, len(names))
            if person == len(names):
                names.append(name)
            if (digest, person) in known:
                continue
            known.add((digest, person))
            if person not in sums:
                sums[person] = self._sum(person) if person < len(self) else np.zeros(self.dim)
            sums[person] += embedding
            added[person] = added.get(person, 0) + 1
            hashes.append(bytes.fromhex(digest))
            people.append(person)
        templates = np.concatenate([self.templates, np.empty((len(names) - len(self), self.dim), np.float32)])
        lengths = np.concatenate([self.lengths, np.empty(len(names) - len(self), np.float32)])
        photo_counts = np.concatenate([self.photos, np.zeros(len(names) - len(self), np.int32)])
        for person, total in sums.items():
            photo_counts[person] += added[person]
            length = float(np.linalg.norm(total))
            if not length > 0:
                raise InputError(f"expected photos of one person under {names[person]!r}, found ones that cancel out")
            templates[person] = total / length
            lengths[person] = length / photo_counts[person]
        return Gallery(
            self.facts,
            templates,
            lengths,
            photo_counts,
            *packed_names(names),
            np.concatenate([self.photo_hashes, np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)]),
            np.concatenate([self.photo_people, np.array(people, np.int32)]),
        )

    def remove(self, names: Sequence[str]) -> Gallery:
        """This gallery without some people and all that belongs to them; InputError for a name that is not there."""
        present = self.names()
        missing = [name for name in names if name not in set(present)]
        if missing:
            raise InputError(f"expected people of the gallery, found no {', '.join(missing)}; names are case-sensitive")
        kept = np.array([name not in set(names) for name in present], bool)
        renumbered = np.cumsum(kept) - 1
        photos = kept[self.photo_people]
        return Gallery(
            self.facts,
            self.templates[kept],
            self.lengths[kept],
            self.photos[kept],
            *packed_names([name for name, keep in zip(present, kept, strict=True) if keep]),
            self.photo_hashes[photos],
            renumbered[self.photo_people[photos]].astype(np.int32),
        )

    def identify(
        self,
        picture: Picture,
        verifier: FaceVerifier,
        *,
        fpir: float | None = None,
        threshold: float | None = None,
        top: int = 5,
    ) -> Identification:
        """Identifies the faces that `verifier` picks in `picture`, each with its `top` most similar people.

        A face is identified where its best similarity is above `threshold`, or above the stored threshold that keeps
        the false positive identification rate `fpir`; without either it is only ranked. InputError for a gallery of
        another model or without people.
        """
        self.require(identity(verifier))
        if not len(self):
            raise InputError("expected people in the gallery, found none; add some with `zoo index`")
        if top < 1:
            raise InputError(f"expected to rank at least 1 person, found {top}")
        decision = decide_identification(verifier.embedder.info, len(self), fpir, threshold)
        crops = verifier.crops(picture)
        people, scores = self.search(verifier.embed_crops(crops), top)
        least = math.inf if decision.threshold is None else decision.threshold
        faces = []
        for crop, row, similarities in zip(crops, people.tolist(), scores.tolist(), strict=True):
            candidates = tuple((self.name(person), score) for person, score in zip(row, similarities, strict=True))
            name, best = candidates[0]
            faces.append(IdentifiedFace(crop, candidates, name if best > least else None))
        return Identification(tuple(faces), decision, len(self), self.notes)

    def add(
        self,
        folder: str | Path,
        verifier: FaceVerifier,
        workers: int = 2,
        bar: Bar = no_bar,
        journal: Journal | None = None,
    ) -> Gallery:
        """This gallery with the photos below `folder`, one sub-folder per person; its notes say what was odd.

        Photos that it holds already are not embedded again; `journal` holds those that an interrupted call embedded.
        InputError for a gallery of another model, and where no photo of anybody can be used.
        """
        facts = identity(verifier)
        if journal is None:
            with tempfile.TemporaryDirectory() as spare, Journal(Path(spare, "journal"), facts) as journal:
                return self.add(folder, verifier, workers, bar, journal)
        self.require(facts)
        people, notes = people_in(folder)
        with bar("enrol", sum(map(len, people.values()))) as progress:
            photos, more = enrol(verifier, people, journal, self.hashes(), workers, progress)
        extended = self.extended(photos)
        enrolled = set(extended.names())
        notes += [*more, *(f"no usable photo of {name}: not in the gallery" for name in people if name not in enrolled)]
        if not enrolled:
            raise InputError(f"expected at least one usable photo in {printable(folder)}, found none: {more[0]}")
        return replace(extended, notes=tuple(notes))

    @classmethod
    def index(
        cls, folder: str | Path, path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar
    ) -> tuple[Gallery, int]:
        """Adds the photos below `folder` to the gallery file at `path`, new or not: what `zoo index` does.

        Returns the gallery and how many photos are new in it. After an interruption the next call resumes from
        PATH.partial. InputError as for `add`; the file is then as it was.
        """
        path, facts = Path(path), identity(verifier)
        with Journal(path.with_name(path.name + ".partial"), facts) as journal:  # keeps other writers out as well
            old = cls.open(path) if path.exists() else cls.empty(verifier.embedder.embedding_dim, facts)
            new = old.add(folder, verifier, workers, bar, journal)
            new.save(path)
            journal.delete()
        return new, int(new.photos.sum() - old.photos.sum())

    @classmethod
    def of(cls, path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> Gallery:
        """The people at `path`: a gallery file, or a folder with one sub-folder per person, enrolled in memory."""
        if Path(path).is_dir():
            return cls.empty(verifier.embedder.embedding_dim, identity(verifier)).add(path, verifier, workers, bar)
        return cls.open(path)

    def require(self, facts: dict[str, str | bool]) -> None:
        """InputError unless the gallery's embeddings may be compared with those made under `facts` (see `identity`)."""
        differing = [key for key in ("model", "flip", "alignment") if self.facts.get(key) != facts.get(key)]
        if differing:
            raise InputError(
                f"expected a gallery of this model, found one that was made with another"
                f" {' and another '.join(differing)}; index the photos again with this model"
            )

    def save(self, path: str | Path) -> None:
        """Writes the gallery as one safetensors file, whole or not at all."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "facts": json.dumps(self.facts, sort_keys=True)}}
        at = 0
        for name, array in arrays.items():
            kind = next(code for code, dtype in DTYPES.items() if dtype == array.dtype)
            header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
            at += array.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 64)  # so that every array of a map is aligned
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                for start in range(0, max(1, len(array)), ROWS_AT_ONCE):
                    file.write(np.ascontiguousarray(array[start : start + ROWS_AT_ONCE]).tobytes())

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Opens a saved gallery as memory maps; InputError where there is none or it is damaged."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                text = file.read(length) if length < 2**20 else b""
            header = json.loads(text)
            facts = json.loads(header["__metadata__"]["facts"])
            if header["__metadata__"]["format"] != FORMAT:
                raise ValueError("another format")
            size = path.stat().st_size
            arrays: dict[str, Any] = {}
            for name in _ARRAYS:
                entry = header[name]
                start, end = entry["data_offsets"]
                shape, dtype = tuple(entry["shape"]), np.dtype(DTYPES[entry["dtype"]])
                if 8 + length + end > size or math.prod(shape) * dtype.itemsize != end - start:
                    raise ValueError("cut off")
                arrays[name] = (
                    np.memmap(path, dtype, "r", 8 + length + start, shape)
                    if math.prod(shape)
                    else np.empty(shape, dtype)
                )
            return cls(facts, **arrays)
        except OSError as error:
            raise InputError(f"expected a gallery at {printable(path)}, cannot read it ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"expected a gallery written by `zoo index` at {printable(path)}, found something else or a damaged one"
            ) from None

    def _sum(self, person: int) -> npt.NDArray[np.float64]:
        """The sum of the unit embeddings behind a template."""
        scale = float(self.lengths[person]) * int(self.photos[person])
        return np.asarray(self.templates[person], np.float64) * scale


_ARRAYS = ("templates", "lengths", "name_ends", "photos", "photo_people", "name_bytes", "photo_hashes")
"""In the order of the file: wider items first, so that each array starts at a multiple of its item size."""


def packed_names(names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Names as UTF-8 bytes one after the other, and where each ends (people,)."""
    encoded = [name.encode() for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64) if encoded else np.empty(0, np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends
