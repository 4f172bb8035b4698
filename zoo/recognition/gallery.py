"""A gallery of known people: one template a person, searched exactly, kept in one memory-mapped file."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.formats.photos import printable
from zoo.modelinfo import ModelInfo
from zoo.recognition.batch import Progress, embed_pictures, found_in, pictures_in
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import Decision, FaceCrop, FaceVerifier

FORMAT = "zoo gallery 1"
BLOCK = 16_384
"""People compared at once: 32 MB of 512-d templates, whatever the gallery's size."""

MANY = 1_000_000
"""People beyond which faiss, where it is installed, searches instead of blocks: as exactly, with every core."""

DTYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64, "U8": np.uint8}


@dataclass(frozen=True)
class Gallery:
    """People and their templates. A template is the mean of a person's unit embeddings, made unit-length again.

    All arrays may be memory maps: opening a gallery reads nothing but its header.
    """

    facts: dict[str, Any]
    """How the embeddings were made: model (hash), flip, alignment, face rule, detector (hash)."""
    templates: npt.NDArray[np.float32]
    """(people, dim), unit-length."""
    lengths: npt.NDArray[np.float32]
    """(people,): the length of each mean before it was made unit-length, so that photos can be added later."""
    photos: npt.NDArray[np.int32]
    """(people,): how many photos each template averages."""
    name_bytes: npt.NDArray[np.uint8]
    """All names as UTF-8, one after the other."""
    name_ends: npt.NDArray[np.int64]
    """(people,): where each name ends in `name_bytes`."""
    photo_hashes: npt.NDArray[np.uint8]
    """(photos, 32): the SHA-256 of each photo's file."""
    photo_people: npt.NDArray[np.int32]
    """(photos,): whose it is."""

    @classmethod
    def empty(cls, dim: int, facts: dict[str, Any]) -> Gallery:
        """A gallery of nobody."""
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
        """The length of a template."""
        return int(self.templates.shape[1])

    def name(self, person: int) -> str:
        """A person's name."""
        start = int(self.name_ends[person - 1]) if person else 0
        return self.name_bytes[start : int(self.name_ends[person])].tobytes().decode()

    def names(self) -> list[str]:
        """Every name, in order."""
        content, ends = self.name_bytes.tobytes(), self.name_ends.tolist()
        return [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]

    def hashes(self) -> set[str]:
        """The SHA-256 of every photo, as hex digits."""
        return {row.tobytes().hex() for row in self.photo_hashes}

    def search(
        self, queries: npt.NDArray[np.float32], k: int = 1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The `k` most similar people of each query, best first, and their cosines: both (queries, min(k, people)).

        `queries` are unit-length (queries, dim). Exact, by blocks of people; the lower index wins a tie.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InputError(
                f"expected embeddings of length {self.dim}, as in the gallery, found shape {queries.shape}"
            )
        if len(self) > MANY and importlib.util.find_spec("faiss"):
            return self._search_by_faiss(queries, min(k, len(self)))
        best = np.empty((len(queries), 0), np.float32)
        people = np.empty((len(queries), 0), np.int64)
        for start in range(0, len(self), BLOCK):
            scores = queries @ self.templates[start : start + BLOCK].T
            here = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k < scores.shape[1] else None
            if here is not None:
                # argpartition picks any of equal scores: take all that reach the k-th, in order
                least = np.take_along_axis(scores, here, 1).min(1, keepdims=True)
                here = np.stack([_first(row >= low, row > low, k) for row, low in zip(scores, least, strict=True)])
            else:
                here = np.tile(np.arange(scores.shape[1]), (len(queries), 1))
            best = np.concatenate([best, np.take_along_axis(scores, here, 1)], 1)
            people = np.concatenate([people, here + start], 1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :k]
            best, people = np.take_along_axis(best, order, 1), np.take_along_axis(people, order, 1)
        return people, best

    def _search_by_faiss(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """`search` by faiss's exact inner products; of people who tie for the last place it may keep any."""
        import faiss

        scores, people = faiss.knn(np.ascontiguousarray(queries), self.templates, k, metric=faiss.METRIC_INNER_PRODUCT)
        order = np.lexsort((people, -scores), axis=1)
        return np.take_along_axis(people, order, 1), np.take_along_axis(scores, order, 1)

    def extended(self, photos: Iterable[tuple[str, str, npt.NDArray[np.float32]]]) -> Gallery:
        """This gallery with more photos, each (name, SHA-256 in hex, unit embedding (dim,)); new names are appended.

        A photo that a person has already counts once.
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

    def without(self, names: Sequence[str]) -> Gallery:
        """This gallery without some people and whatever is known of them; InputError for a name that is not there."""
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

    def require(self, facts: dict[str, Any], path: str | Path) -> None:
        """InputError unless the gallery's embeddings may be compared with those made under `facts`."""
        differing = [key for key in ("model", "flip", "alignment") if self.facts.get(key) != facts.get(key)]
        if differing:
            raise InputError(
                f"expected a gallery of this model, but {printable(path)} was made with another"
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
                for start in range(0, max(1, len(array)), BLOCK):
                    file.write(np.ascontiguousarray(array[start : start + BLOCK]).tobytes())

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
            arrays = {}
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


def _first(reaching: npt.NDArray[np.bool_], above: npt.NDArray[np.bool_], k: int) -> npt.NDArray[np.int64]:
    """The k columns of one row: all that lie above the k-th score, then the first that equal it."""
    sure = np.flatnonzero(above)
    equal = np.flatnonzero(reaching & ~above)
    return np.sort(np.concatenate([sure, equal[: k - len(sure)]]))


@dataclass(frozen=True)
class Identification:
    """Who one face of a photo is."""

    crop: FaceCrop
    """The face."""
    candidates: tuple[tuple[str, float], ...]
    """The most similar people and their similarities, best first."""
    identified: str | None
    """The name of the best one above the threshold; None for nobody, and where no threshold is known."""


def identify(
    gallery: Gallery, verifier: FaceVerifier, crops: Sequence[FaceCrop], threshold: float | None, k: int = 5
) -> list[Identification]:
    """The `k` most similar people of a gallery for each face, and who it is when its best is above `threshold`."""
    people, scores = gallery.search(verifier.embed_crops(list(crops)), k)
    answers = []
    for crop, row, similarities in zip(crops, people.tolist(), scores.tolist(), strict=True):
        candidates = tuple((gallery.name(person), score) for person, score in zip(row, similarities, strict=True))
        name, best = candidates[0]
        answers.append(Identification(crop, candidates, name if threshold is not None and best > threshold else None))
    return answers


def far_for(fpir: float, people: int) -> float:
    """The 1:1 false accept rate at which a gallery of `people` has the false positive identification rate `fpir`.

    FPIR = 1 − (1 − FAR)^N for N independent comparisons, solved for FAR.
    """
    if not 0 < fpir < 1:
        raise InputError(f"expected a false positive identification rate between 0 and 1, found {fpir}")
    return -math.expm1(math.log1p(-fpir) / people)


def fpir_of(far: float, people: int) -> float:
    """The false positive identification rate of a gallery of `people` at a 1:1 false accept rate: 1 − (1 − FAR)^N."""
    return 1.0 if far >= 1 else -math.expm1(people * math.log1p(-far))


def decide_identification(
    info: ModelInfo | None, people: int, fpir: float | None = None, threshold: float | None = None
) -> Decision:
    """The threshold below which a face is nobody's, for a gallery of `people`.

    For `fpir` it is the stored threshold with the largest false accept rate that keeps the promise. InputError when
    none that was measured is small enough, or when both are given.
    """
    if threshold is not None:
        if fpir is not None:
            raise InputError("expected --threshold or --fpir, found both; give one of them")
        if not -1 <= threshold <= 1:
            raise InputError(f"expected a threshold between -1 and 1, as cosines are, found {threshold}")
        return Decision(threshold, "given with --threshold")
    stored = sorted(info.thresholds, key=lambda t: t.far) if info else []
    if fpir is None:
        if not stored:
            return Decision(None, "this model stores none: give one with --threshold")
        rate = fpir_of(stored[0].far, people)
        return Decision(
            None,
            f"give --fpir, or one with --threshold; the smallest measured FAR, {stored[0].far:g},"
            f" means a false positive identification rate of {rate:.2g} with {people:,} people",
        )
    needed = far_for(fpir, people)
    fitting = [t for t in stored if t.far <= needed * (1 + 1e-9)]
    if not fitting:
        measured = f"the smallest measured is {stored[0].far:g}" if stored else "this model has none measured"
        raise InputError(
            f"expected a threshold for FAR {needed:.3g} or less, which FPIR {fpir:g} needs with {people:,} people, but"
            f" {measured}; measure it on more pairs, allow a larger --fpir, or give --threshold"
        )
    chosen = fitting[-1]
    return Decision(
        chosen.threshold,
        f"FAR {chosen.far:g} on {chosen.data}, which means FPIR {fpir_of(chosen.far, people):.2g}"
        f" with {people:,} people",
        chosen,
    )


def people_in(folder: str | Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Each person's pictures in a folder of people, and what a reader should know of it.

    A person is a sub-folder; its name is the person's. InputError where no sub-folder holds a picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"expected a folder of people at {printable(folder)}, found none; check the path")
    people: dict[str, list[Path]] = {}
    notes: list[str] = []
    entries = sorted(folder.iterdir())
    for entry in entries:
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        pictures = list(pictures_in([entry]))
        if pictures:
            people[printable(entry.name)] = pictures
        else:
            notes.append(f"{printable(entry)} holds no picture: left out")
    loose = sum(entry.is_file() and not entry.name.startswith(".") for entry in entries)
    if loose:
        notes.append(f"{loose} files lie beside the people's folders in {printable(folder)}: left out")
    notes += alike(people)
    if not people:
        raise InputError(
            f"expected a folder of people, one sub-folder a person, found no picture in any sub-folder of"
            f" {printable(folder)}"
        )
    return people, notes


def enrol(
    gallery: Gallery,
    verifier: FaceVerifier,
    people: Mapping[str, Sequence[Path]],
    journal: Journal,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Gallery, list[str]]:
    """`gallery` with the photos of `people` by name added, and what a reader should know: failures, duplicates.

    Photos that the gallery holds already are not embedded again. `journal` keeps what is done until the caller has
    saved the result.
    """
    names = {path: name for name, paths in people.items() for path in paths}
    known = gallery.hashes()
    embed_pictures(verifier, names, journal, lambda path: {"person": names[path]}, known, workers, progress=progress)
    notes: list[str] = []
    photos: list[tuple[str, str, npt.NDArray[np.float32]]] = []
    owners: dict[str, dict[str, str]] = {}
    wanted = {printable(path): name for path, name in names.items()}
    for found, _ in found_in(journal, gallery.dim):
        name = wanted.get(found.path)
        if name is None:  # of an interrupted run over another folder
            continue
        if found.reason:
            notes.append(found.reason)
            continue
        if found.shown > 1:
            notes.append(f"{found.path} shows {found.shown} faces: the {verifier.face} was enrolled as {name}")
        twin = owners.setdefault(found.sha256, {}).setdefault(name, found.path)
        if twin != found.path:
            notes.append(f"{found.path} is the same file as {twin}: counted once")
            continue
        photos.append((name, found.sha256, found.embeddings[0]))
    notes += [
        f"{' and '.join(same.values())} are one photo under {len(same)} names: {' and '.join(same)}"
        for same in owners.values()
        if len(same) > 1
    ]
    extended = gallery.extended(photos)
    enrolled = set(extended.names())
    notes += [f"no usable photo of {name}: not in the gallery" for name in people if name not in enrolled]
    return extended, notes


def alike(names: Mapping[str, object] | Iterable[str]) -> list[str]:
    """A note for each set of names that differ in upper and lower case alone."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    return [
        f"{' and '.join(same)} differ in upper and lower case alone: kept as {len(same)} people"
        for same in folded.values()
        if len(same) > 1
    ]
