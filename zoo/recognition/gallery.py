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
from zoo.faces.finder import FaceCrop, Picture
from zoo.files import atomic_path
from zoo.formats.images import printable
from zoo.messages import Bar, no_bar
from zoo.recognition.enrol import EnrolledPhoto, enrol, people_in
from zoo.recognition.journal import Journal
from zoo.recognition.search import Hits, search
from zoo.recognition.threshold import Decision, decide_identification
from zoo.recognition.verifier import FaceVerifier

FORMAT = "zoo gallery 1"


@dataclass(frozen=True)
class IdentifiedFace:
    """One face of a picture and the people it resembles."""

    crop: FaceCrop
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
        faces = [
            {
                "box": face.crop.face and face.crop.face.box,
                "identified": face.name,
                "candidates": [{"name": name, "similarity": similarity} for name, similarity in face.candidates],
                "notes": face.crop.notes,
            }
            for face in self.faces
        ]
        return json.dumps(
            {"people": self.people, **self.decision.facts(), "faces": faces, "notes": self.notes}, indent=2
        )


@dataclass(frozen=True)
class Gallery:
    """People and their templates. A template is the mean of a person's unit embeddings, made unit-length again.

    A gallery never changes: `add`, `extended` and `remove` return another one. All arrays may be memory maps: opening a
    gallery reads nothing but its header.
    """

    facts: dict[str, str | bool]
    """How the embeddings were made: model (hash), flip, alignment, face rule, detector (hash); and, for a gallery that
    comes from another model, how it was migrated."""
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
        shapes: dict[str, tuple[int, ...]] = {"templates": (0, dim), "photo_hashes": (0, 32)}
        arrays: dict[str, Any] = {name: np.empty(shapes.get(name, (0,)), dtype) for name, dtype in ARRAYS.items()}
        return cls(facts, **arrays)

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
        added: list[tuple[int, bytes, npt.NDArray[np.float32]]] = []
        for name, digest, embedding in photos:
            person = place.setdefault(name, len(place))
            if (digest, person) not in known:
                known.add((digest, person))
                added.append((person, bytes.fromhex(digest), embedding))
        people = np.array([person for person, _, _ in added], np.int32)
        names = list(place)
        new = len(names) - len(self)
        templates = np.concatenate([self.templates, np.zeros((new, self.dim), np.float32)])
        lengths = np.concatenate([self.lengths, np.zeros(new, np.float32)])
        counts = np.concatenate([self.photos, np.zeros(new, np.int32)])
        changed, where = np.unique(people, return_inverse=True)
        sums = templates[changed] * (lengths[changed] * counts[changed]).astype(np.float64)[:, None]
        np.add.at(sums, where, np.array([row for _, _, row in added]).reshape(-1, self.dim))
        np.add.at(counts, people, 1)
        norms = np.linalg.norm(sums, axis=1)
        if not norms.all():
            name = names[changed[int(np.argmin(norms))]]
            raise InputError(f"expected photos of one person under {name!r}, found ones that cancel out")
        templates[changed] = sums / norms[:, None]
        lengths[changed] = norms / counts[changed]
        hashes = np.frombuffer(b"".join(digest for _, digest, _ in added), np.uint8).reshape(-1, 32)
        return Gallery(
            self.facts,
            templates,
            lengths,
            counts,
            *packed_names(names),
            np.concatenate([self.photo_hashes, hashes]),
            np.concatenate([self.photo_people, people]),
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
        self.require(verifier)
        if not len(self):
            raise InputError("expected people in the gallery, found none; add some with `zoo index`")
        if top < 1:
            raise InputError(f"expected to rank at least 1 person, found {top}")
        decision = decide_identification(verifier.embedder.info, len(self), fpir, threshold)
        crops = verifier.crops(picture)
        faces = []
        for crop, people, scores in zip(crops, *self.search(verifier.embed_crops(crops), top), strict=True):
            candidates = tuple(zip(map(self.name, people.tolist()), scores.tolist(), strict=True))
            name, best = candidates[0]
            faces.append(IdentifiedFace(crop, candidates, name if decision.accepts(best) else None))
        moved = self.facts.get("migrated")
        notes = (*self.notes, f"the gallery was migrated: {moved}") if moved else self.notes
        return Identification(tuple(faces), decision, len(self), notes)

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
        if journal is None:
            with tempfile.TemporaryDirectory() as spare, Journal(Path(spare, "journal"), {}) as journal:
                return self.add(folder, verifier, workers, bar, journal)
        self.require(verifier)
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
        path = Path(path)
        with Journal(path.with_name(path.name + ".partial"), verifier.how()) as journal:  # keeps other writers out
            old = cls.open(path) if path.exists() else cls.empty(verifier.dim, verifier.how())
            new = old.add(folder, verifier, workers, bar, journal)
            new.save(path)
            journal.delete()
        return new, int(new.photos.sum() - old.photos.sum())

    @classmethod
    def of(cls, path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> Gallery:
        """The people at `path`: a gallery file, or a folder with one sub-folder per person, enrolled in memory."""
        if Path(path).is_dir():
            return cls.empty(verifier.dim, verifier.how()).add(path, verifier, workers, bar)
        return cls.open(path)

    def require(self, verifier: FaceVerifier) -> None:
        """InputError unless the gallery's embeddings may be compared with the verifier's."""
        how = verifier.how()
        differing = [key for key in ("model", "input", "flip", "alignment") if self.facts.get(key) != how.get(key)]
        if differing:
            raise InputError(
                f"expected a gallery of this model, found one that was made with another"
                f" {' and another '.join(differing)}; index the photos again with this model"
            )

    def save(self, path: str | Path) -> None:
        """Writes the gallery as one safetensors file, whole or not at all."""
        header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "facts": json.dumps(self.facts, sort_keys=True)}}
        at = 0
        for name, dtype in ARRAYS.items():
            array = getattr(self, name)
            offsets = [at, at := at + array.nbytes]
            header[name] = {"dtype": CODES[dtype], "shape": list(array.shape), "data_offsets": offsets}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 64)  # so that every array of a map is aligned
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in ARRAYS:
                getattr(self, name).tofile(file)

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Opens a saved gallery as memory maps; InputError where there is none or it is damaged."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length) if length < 2**20 else b"")
            if header["__metadata__"]["format"] != FORMAT:
                raise ValueError("another format")
            arrays: dict[str, Any] = {}
            for name, dtype in ARRAYS.items():
                shape, (start, end) = tuple(header[name]["shape"]), header[name]["data_offsets"]
                if math.prod(shape) * np.dtype(dtype).itemsize != end - start or header[name]["dtype"] != CODES[dtype]:
                    raise ValueError("another shape")
                arrays[name] = np.empty(shape, dtype)
                if end > start:  # a file that was cut off is too short to map: ValueError
                    arrays[name] = np.memmap(path, dtype, "r", 8 + length + start, shape)
            return cls(json.loads(header["__metadata__"]["facts"]), **arrays)
        except OSError as error:
            raise InputError(f"expected a gallery at {printable(path)}, cannot read it ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"expected a gallery written by `zoo index` at {printable(path)}, found something else or a damaged one"
            ) from None


ARRAYS: dict[str, type[np.generic]] = {
    "templates": np.float32,
    "lengths": np.float32,
    "name_ends": np.int64,
    "photos": np.int32,
    "photo_people": np.int32,
    "name_bytes": np.uint8,
    "photo_hashes": np.uint8,
}
"""In the order of the file: wider items first, so that each array starts at a multiple of its item size."""
CODES = {np.float32: "F32", np.int32: "I32", np.int64: "I64", np.uint8: "U8"}


def packed_names(names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Names as UTF-8 bytes one after the other, and where each ends (people,)."""
    encoded = [name.encode() for name in names]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(name) for name in encoded], dtype=np.int64)
