"""Many pictures into embeddings: found in folders, read by threads, embedded in batches, each recorded when done."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.photos import SUFFIXES, decode_photo, printable, read_file
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceCrop, FaceVerifier

Progress = Callable[[int], None]
"""Told how many more pictures are done."""


@dataclass(frozen=True)
class Found:
    """One picture of a run: its faces, or why it has none."""

    path: str
    """As it was named or found; bytes that are no UTF-8 as \\xNN."""
    sha256: str
    """Of the file's content; empty where it could not be read."""
    faces: tuple[dict[str, Any], ...]
    """For each face its box, landmarks, score, quality and the norm of its raw embedding."""
    shown: int
    """How many faces the picture shows; 0 for an aligned crop."""
    reason: str
    """Why there is no embedding: one sentence; empty where there is one."""
    embeddings: npt.NDArray[np.float32]
    """Unit-length, (faces, dim)."""


def identity(verifier: FaceVerifier) -> dict[str, Any]:
    """What two runs must share so that their embeddings may be compared."""
    return {
        "model": verifier.embedder.model_sha256,
        "flip": verifier.flip,
        "alignment": verifier.embedder.input.alignment,
        "face rule": verifier.face,
        "detector": "none" if verifier.aligned else verifier.detector.sha256,
    }


def pictures_in(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files named, and every picture below the folders named, in sorted order; InputError for what is not there."""
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
    facts: Callable[[Path], dict[str, Any]] = lambda path: {},
    skip: frozenset[str] | set[str] = frozenset(),
    workers: int = 2,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> int:
    """Adds a record to `journal` for each picture that is in neither the journal nor `skip` (of content hashes).

    Returns how many were added. `facts` of a path go into its record. A picture that cannot be used is recorded
    with the reason.
    """
    done = {(r["path"], r["bytes"], r["mtime_ns"]) for r, _ in journal.records() if r["sha256"]}

    def look(path: Path) -> tuple[dict[str, Any], list[FaceCrop]] | None:
        record = {"path": printable(path), **_stamp(path), "sha256": "", "reason": "", **facts(path)}
        if (record["path"], record["bytes"], record["mtime_ns"]) in done:
            return None
        try:
            content = read_file(path)
            record["sha256"] = hashlib.sha256(content).hexdigest()
            if record["sha256"] in skip:
                return None
            image = decode_photo(content, record["path"])
            every = verifier.face == "all"
            return record, verifier.crops(image, record["path"]) if every else [verifier.crop(image, record["path"])]
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
            faces = [_face(crop, norm) for crop, norm in zip(some, norms[at : at + len(some)], strict=True)]
            shown = len(some[0].faces) if some else 0
            journal.append({**record, "faces": faces, "shown": shown}, rows[at : at + len(some)].tobytes())
            at += len(some)
        if progress is not None:
            progress(len(held))
        held.clear()

    for seen in _ahead(look, pictures, workers):
        if seen is None:
            if progress is not None:
                progress(1)
            continue
        held.append(seen)
        if sum(max(1, len(some)) for _, some in held) >= batch_size:
            flush()
    flush()
    return added


def found_in(journal: Journal, dim: int) -> Iterator[tuple[Found, dict[str, Any]]]:
    """Each picture's latest record in a journal, with all its facts, in the order of recording."""
    latest = {record["path"]: number for number, (record, _) in enumerate(journal.records())}
    for number, (record, blob) in enumerate(journal.records()):
        if latest[record["path"]] != number:  # the picture changed between two runs
            continue
        embeddings = np.frombuffer(blob, np.float32).reshape(-1, dim)
        yield (
            Found(
                record["path"],
                record["sha256"],
                tuple(record["faces"]),
                record["shown"],
                record["reason"],
                embeddings,
            ),
            record,
        )


def _ahead(
    look: Callable[[Path], tuple[dict[str, Any], list[FaceCrop]] | None], pictures: Iterable[Path], workers: int
) -> Iterator[tuple[dict[str, Any], list[FaceCrop]] | None]:
    """`look` at each picture in order, a few ahead by threads: a folder of 100,000 files is not held in memory."""
    waiting: deque[Future[tuple[dict[str, Any], list[FaceCrop]] | None]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for path in pictures:
            waiting.append(pool.submit(look, path))
            if len(waiting) >= 4 * max(1, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _stamp(path: Path) -> dict[str, int]:
    """What changes when a file's content does; zeros where there is no file."""
    try:
        facts = path.stat()
    except OSError:
        return {"bytes": 0, "mtime_ns": 0}
    return {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _face(crop: FaceCrop, norm: float) -> dict[str, Any]:
    face = crop.face
    return {
        "box": list(face.box) if face else None,
        "landmarks": face.landmarks.tolist() if face else None,
        "score": face.score if face else None,
        "quality": asdict(crop.quality),
        "norm": float(norm),
    }
