"""A gallery of known people: one template per person, searched exactly, in one memory-mapped file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.formats.images import printable
from zoo.formats.mapped import open_mapped, write_mapped
from zoo.recognition.search import Codes, Hits, search
from zoo.recognition.verifier import FaceVerifier

if TYPE_CHECKING:
    from zoo.faces.finder import Picture
    from zoo.recognition.identify import Identification
    from zoo.recognition.index import Indexed
    from zoo.recognition.store import Store

FORMAT = "zoo gallery 1"

EnrolledPhoto = tuple[str, str, npt.NDArray[np.float32]]
"""A person's name, the SHA-256 of the photo's file in hex, and the unit-length embedding (dim,)."""

Ranked = tuple[tuple[str, float], ...]  #: People and their cosines, best first


@dataclass(frozen=True, eq=False)
class Gallery:
    """People and their templates. A template is the mean of a person's unit embeddings, made unit-length again.

    A gallery never changes: `extended` and `remove` return another one. All arrays may be memory maps: opening a
    gallery reads nothing but its header.
    """

    facts: dict[str, Any]  #: How embeddings were made (`FaceVerifier.how`); `migrated`: how they come from another
    templates: npt.NDArray[np.float32]  #: (people, dim), unit-length
    lengths: npt.NDArray[np.float32]  #: (people,): the norm of each mean, so that photos can be added later
    photos: npt.NDArray[np.int32]  #: (people,): how many photos each template averages
    name_bytes: npt.NDArray[np.uint8]  #: All names as UTF-8, one after the other
    name_ends: npt.NDArray[np.int64]  #: (people,): where each name ends in `name_bytes`
    photo_hashes: npt.NDArray[np.uint8]  #: (photos, 32): the SHA-256 of each photo's file
    photo_people: npt.NDArray[np.int32]  #: (photos,): the index of the person whose photo it is
    photo_values: npt.NDArray[np.int8]  #: (photos, dim): the `Codes` of each embedding, so that one can be taken out
    photo_scales: npt.NDArray[np.float32]  #: (photos,): 0 for photos of earlier versions, which kept no embedding
    notes: tuple[str, ...] = ()  #: What was odd about the photos that were added last, one sentence each; not saved

    @classmethod
    def empty(cls, dim: int, facts: dict[str, Any]) -> Gallery:
        """A gallery without people."""
        shapes = {"templates": (0, dim), "photo_hashes": (0, 32), "photo_values": (0, dim)}
        arrays: dict[str, Any] = {name: np.empty(shapes.get(name, 0), dtype) for name, dtype in ARRAYS.items()}
        return cls(facts, **arrays)

    @staticmethod
    def of(path: str | Path, verifier: FaceVerifier, **options: Any) -> Store:
        """The people in a gallery file, a folder or a collection: see `zoo.recognition.index.people_at`."""
        from zoo.recognition.index import people_at

        return people_at(path, verifier, **options)

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Opens a saved gallery as memory maps; InputError where there is none or it is damaged."""
        found = f"expected a gallery written by `zoo index` at {printable(path)}, found something else or a damaged one"
        unread = explained(f"expected a gallery at {printable(path)}, cannot read it", OSError)
        with unread, explained(found, ValueError, KeyError, TypeError):
            arrays, texts = open_mapped(path)
            if texts["format"] != FORMAT:
                raise ValueError("another format")
            photos, dim = len(arrays["photo_people"]), arrays["templates"].shape[1]
            arrays.setdefault("photo_values", np.zeros((photos, dim), np.int8))  # earlier versions kept none
            arrays.setdefault("photo_scales", np.zeros(photos, np.float32))
            known: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
            gallery = cls(json.loads(texts["facts"]), **known)
        if "code_values" in arrays:  # those of earlier versions are coded when they are first searched
            gallery.__dict__["codes"] = Codes(arrays["code_values"], arrays["code_scales"], arrays["code_errors"])
        return gallery

    def save(self, path: str | Path) -> None:
        """Writes the gallery as one safetensors file, whole or not at all.

        `index` and `prune` change a file that other processes may change too; this replaces whatever is there.
        """
        codes = {f"code_{name}": array for name, array in vars(self.codes).items()}
        texts = {"format": FORMAT, "facts": json.dumps(self.facts, sort_keys=True)}
        write_mapped(path, {**{name: getattr(self, name) for name in ARRAYS}, **codes}, texts)

    @cached_property
    def codes(self) -> Codes:
        """The templates in 8 bits, which are searched first."""
        return Codes.of(self.templates)

    def __len__(self) -> int:
        return len(self.templates)

    def __repr__(self) -> str:
        return f"Gallery({len(self):,} people, {len(self.photo_people):,} photos, {self.dim} dimensions)"

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

    def owned(self, people: Collection[str] | None = None) -> list[tuple[str, str]]:
        """The photos of these people, or all, in order: each one's person and its SHA-256 in hex."""
        names = self.names()
        wanted = np.array([people is None or name in people for name in names], bool)[self.photo_people]
        photos = zip(self.photo_people[wanted].tolist(), self.photo_hashes[wanted], strict=True)
        return [(names[person], row.tobytes().hex()) for person, row in photos]

    def uncoded(self) -> set[str]:
        """The people with a photo of which no embedding was kept."""
        return {self.name(person) for person in set(self.photo_people[self.photo_scales == 0].tolist())}

    def agreement(self) -> npt.NDArray[np.float64]:
        """(people,): the mean similarity of two different photos of a person; NaN for a person with one photo.

        From the norm L of the mean of n unit vectors: n²·L² = n + n·(n − 1)·mean.
        """
        n = np.where(self.photos > 1, self.photos, np.nan)
        return np.asarray((n * self.lengths.astype(np.float64) ** 2 - 1) / (n - 1))

    def search(self, queries: npt.NDArray[np.float32], k: int = 1) -> Hits:
        """The `k` most similar people of each query, best first, and their cosines: both (queries, min(k, people)).

        `queries` are unit-length (queries, dim). Exact; the lower index wins a tie.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            found = f"found shape {queries.shape}"
            raise InputError(f"expected embeddings of dimension {self.dim}, as in the gallery, {found}")
        return search(self.templates, self.codes, queries, k)

    def ranked(self, queries: npt.NDArray[np.float32], k: int = 1) -> list[Ranked]:
        """`search` with names."""
        found = zip(*self.search(queries, k), strict=True)
        return [tuple(zip(map(self.name, people.tolist()), scores.tolist(), strict=True)) for people, scores in found]

    def require(self, verifier: FaceVerifier) -> list[str]:
        """InputError unless the gallery's embeddings may be compared with the verifier's; a note where they differ."""
        how = verifier.how()
        differing = [key for key in ("model", "input", "flip", "alignment") if self.facts.get(key) != how.get(key)]
        if differing:
            other = f"another {' and another '.join(differing)}"
            advice = "index the photos again with this model"
            raise InputError(f"expected a gallery of this model, found one that was made with {other}; {advice}")
        if self.facts.get("detector") == "none" or verifier.aligned or self.facts.get("finder") == how["finder"]:
            return []
        return ["the gallery's faces were found by an earlier version: index the photos again"]

    def identify(self, picture: Picture, verifier: FaceVerifier, **options: Any) -> Identification:
        """The faces of a picture, each with its most similar people: see `zoo.recognition.identify`."""
        from zoo.recognition.identify import identify

        return identify(self, picture, verifier, **options)

    @staticmethod
    def index(folder: str | Path, path: str | Path, verifier: FaceVerifier, **options: Any) -> Indexed:
        """Brings the gallery at `path` up to date with a folder of people: see `zoo.recognition.index`."""
        from zoo.recognition.index import index

        return index(folder, path, verifier, **options)

    @staticmethod
    def prune(path: str | Path, people: Collection[str] = (), photos: Collection[str | Path] = ()) -> Indexed:
        """Takes people and photos out of the gallery at `path`: see `zoo.recognition.index`."""
        from zoo.recognition.index import prune

        return prune(path, people, photos)

    def extended(self, photos: Iterable[EnrolledPhoto]) -> Gallery:
        """This gallery with more photos; new names are appended. A photo that a person has already counts once."""
        place = {name: number for number, name in enumerate(self.names())}
        known = {(int(p), row.tobytes()) for p, row in zip(self.photo_people, self.photo_hashes, strict=True)}
        added: dict[tuple[int, bytes], npt.NDArray[np.float32]] = {}
        for name, digest, embedding in photos:
            key = place.setdefault(name, len(place)), bytes.fromhex(digest)
            if key not in known:
                added.setdefault(key, embedding)
        people = np.array([person for person, _ in added], np.int32)
        rows = np.array(list(added.values()), np.float32).reshape(-1, self.dim)
        names, new, codes = list(place), len(place) - len(self), Codes.of(rows)
        templates = np.pad(self.templates, ((0, new), (0, 0)))
        lengths, counts = np.pad(self.lengths, (0, new)), np.pad(self.photos, (0, new))
        changed, where = np.unique(people, return_inverse=True)
        sums = templates[changed] * (lengths[changed] * counts[changed]).astype(np.float64)[:, None]
        np.add.at(sums, where, rows)
        np.add.at(counts, people, 1)
        templates[changed], lengths[changed] = _means(sums, counts[changed], [names[person] for person in changed])
        hashes = np.frombuffer(b"".join(digest for _, digest in added), np.uint8).reshape(-1, 32)
        before = (self.photo_hashes, self.photo_people, self.photo_values, self.photo_scales)
        both: Any = zip(before, (hashes, people, codes.values, codes.scales), strict=True)
        rest: Any = [np.concatenate(pair) for pair in both]
        return Gallery(self.facts, templates, lengths, counts, *packed_names(names), *rest)

    def remove(self, names: Collection[str]) -> Gallery:
        """This gallery without some people and all that belongs to them; InputError for a name that is not there."""
        if missing := sorted(set(names) - set(self.names())):
            raise InputError(f"expected people of the gallery, found no {', '.join(missing)}; names are case-sensitive")
        return self.without(photo for photo in self.owned() if photo[0] in names)

    def without(self, photos: Iterable[tuple[str, str]]) -> Gallery:
        """This gallery without some photos, (name, SHA-256 in hex) each, and without people who have none left.

        InputError for one of several photos of a person whom an earlier version enrolled, as it kept no embedding of
        each.
        """
        present, gone = self.names(), set(photos)
        stays = np.array([photo not in gone for photo in self.owned()], bool)
        counts = np.bincount(self.photo_people[stays], minlength=len(self)).astype(np.int32)
        kept = counts > 0
        templates, lengths = self.templates.copy(), self.lengths.copy()
        for person in np.flatnonzero(kept & (counts < self.photos)):
            rest = stays & (self.photo_people == person)
            if not self.photo_scales[rest].all():
                why = "as an earlier version made it; remove the person and index the photos that are left"
                raise InputError(f"the gallery holds no embedding of each photo of {present[person]!r}, {why}")
            rows = self.photo_values[rest] * self.photo_scales[rest, None].astype(np.float64)
            means = _means(rows.sum(axis=0, keepdims=True), counts[person : person + 1], [present[person]])
            templates[person], lengths[person] = means[0][0], means[1][0]
        arrays: dict[str, Any] = {name: getattr(self, name)[stays] for name in ARRAYS if name.startswith("photo_")}
        arrays["photo_people"] = (np.cumsum(kept) - 1)[arrays["photo_people"]].astype(np.int32)
        left = [name for name, keep in zip(present, kept, strict=True) if keep]
        arrays["name_bytes"], arrays["name_ends"] = packed_names(left)
        return Gallery(self.facts, templates[kept], lengths[kept], counts[kept], **arrays)


def _means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int32], names: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Templates (people, dim) and the lengths (people,) of the means, from sums of unit embeddings."""
    norms = np.linalg.norm(sums, axis=1)
    if not norms.all():
        found = "found ones that cancel out"
        raise InputError(f"expected photos of one person under {names[int(np.argmin(norms))]!r}, {found}")
    return sums / norms[:, None], norms / counts


_HINTS = get_type_hints(Gallery)
ARRAYS = {name: get_args(get_args(hint)[1])[0] for name, hint in _HINTS.items() if get_origin(hint) is np.ndarray}
"""The arrays of a file and their types."""


def packed_names(names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Names as UTF-8 bytes one after the other, and where each ends (people,)."""
    encoded = [name.encode() for name in names]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(name) for name in encoded], dtype=np.int64)
