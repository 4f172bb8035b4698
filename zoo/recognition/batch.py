"""From many pictures to embeddings: found in folders, read ahead, embedded in batches, each recorded when done."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.quality import Quality
from zoo.formats.photos import SUFFIXES, decode_photo, printable, read_file
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Progress, no_progress
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceCrop, FaceVerifier

BATCH = 32
"""Faces that go through the model together."""


@dataclass(frozen=True)
class FoundFace:
    """One face of a picture; what is not known of an aligned crop is None."""

    box: list[float] | None
    """(left, top, width, height) in pixels."""
    landmarks: list[list[float]] | None
    """Five (x, y) in pixels."""
    score: float | None
    """The detector's confidence in [0, 1]."""
    quality: Quality
    norm: float
    """The norm of the raw embedding."""
    embedding: npt.NDArray[np.float32]
    """Unit-length, (dim,)."""


@dataclass(frozen=True)
class Found:
    """One picture of a run with its faces, or why it has none."""

    path: str
    """As it was named or found; bytes that are not UTF-8 as \\xNN."""
    sha256: str
    """The hash of the file's content; empty where it could not be read."""
    faces: tuple[FoundFace, ...]
    shown: int
    """How many faces the picture shows; 0 for an aligned crop."""
    reason: str
    """Why there is no face: one sentence; empty where there is one."""


def identity(verifier: FaceVerifier) -> dict[str, str | bool]:
    """What two runs must share so that their embeddings may be compared."""
    return {
        "model": verifier.embedder.model_sha256,
        "flip": verifier.flip,
        "alignment": verifier.embedder.input.alignment,
        "face rule": verifier.face,
        "detector": "none" if verifier.aligned else verifier.detector.sha256,
    }


def pictures_in(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files in `paths` and every picture below the folders in it, sorted; InputError for a missing path."""
    for path in map(Path, paths):
        if not path.is_dir():
            if not os.path.lexists(path):
                raise InputError(f"expected a picture or a folder at {printable(path)}, found neither; check the path")
            yield path
            continue
        for folder, folders, files in os.walk(path):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(files) if name.lower().endswith(SUFFIXES))


def embed_pictures(
    verifier: FaceVerifier,
    pictures: Iterable[Path],
    journal: Journal,
    skip: Collection[str] = frozenset(),
    workers: int = 2,
    progress: Progress = no_progress,
) -> int:
    """Adds a record to `journal` for each picture that is neither in it nor, by its content's SHA-256, in `skip`.

    Returns how many were added. A picture that cannot be used is recorded with the reason.
    """
    done = {(r["path"], r["bytes"], r["mtime_ns"]) for r, _ in journal.records() if r["sha256"]}

    def look(path: Path) -> tuple[dict[str, Any], list[FaceCrop]] | None:
        name = printable(path)
        record: dict[str, Any] = {"path": name, **_stamp(path), "sha256": "", "reason": ""}
        if (name, record["bytes"], record["mtime_ns"]) in done:
            return None
        try:
            content = read_file(path)
            record["sha256"] = hashlib.sha256(content).hexdigest()
            if record["sha256"] in skip:
                return None
            return record, verifier.crops(decode_photo(content, name), name)
        except InputError as error:
            return {**record, "reason": str(error)}, []

    held: list[tuple[dict[str, Any], list[FaceCrop]]] = []
    added = 0

    def flush() -> None:
        nonlocal added
        added += len(held)
        crops = [crop for _, some in held for crop in some]
        rows, norms = verifier.embed_with_norms(crops) if crops else (np.empty((0, 0), np.float32), np.empty(0))
        at = 0
        for record, some in held:
            faces = [{**c.facts(), "norm": float(n)} for c, n in zip(some, norms[at : at + len(some)], strict=True)]
            shown = len(some[0].faces) if some else 0
            journal.append({**record, "faces": faces, "shown": shown}, rows[at : at + len(some)].tobytes())
            at += len(some)
        progress(len(held))
        held.clear()

    for seen in map_ahead(look, pictures, workers, 4 * max(1, workers)):
        if seen is None:
            progress(1)
            continue
        held.append(seen)
        if sum(max(1, len(some)) for _, some in held) >= BATCH:
            flush()
    flush()
    return added


def found_in(journal: Journal, dim: int) -> Iterator[Found]:
    """Each picture's latest record in a journal, in the order of recording."""
    latest = {record["path"]: number for number, (record, _) in enumerate(journal.records())}
    for number, (record, blob) in enumerate(journal.records()):
        if latest[record["path"]] != number:  # the picture changed between two runs
            continue
        rows = np.frombuffer(blob, np.float32).reshape(-1, dim)
        faces = tuple(
            FoundFace(**{**face, "quality": Quality(**face["quality"])}, embedding=row)
            for face, row in zip(record["faces"], rows, strict=True)
        )
        yield Found(record["path"], record["sha256"], faces, record["shown"], record["reason"])


def _stamp(path: Path) -> dict[str, int]:
    """What changes with a file's content; zeros where there is no file."""
    try:
        facts = path.stat()
    except OSError:
        return {"bytes": 0, "mtime_ns": 0}
    return {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
