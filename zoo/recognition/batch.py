"""From many pictures to embeddings: found in folders, read ahead, embedded in batches, each recorded when done."""

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.data.open import kind_of, open_encoded
from zoo.errors import InputError
from zoo.faces.finder import FaceCrop
from zoo.formats.images import printable, read_file
from zoo.formats.photos import SUFFIXES
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Progress, no_progress
from zoo.recognition.journal import Journal, Record
from zoo.recognition.verifier import FaceVerifier

BATCH = 32  #: Faces that go through the model together

Look = tuple[Record | None, list[FaceCrop]]  #: A picture's record and its faces; None where it was done before


@dataclass(frozen=True)
class Found:
    """One picture of a run with its faces, or why it has none."""

    path: str  #: As it was named or found; bytes that are not UTF-8 as \xNN
    sha256: str  #: The hash of the file's content; empty where it could not be read
    shown: int  #: How many faces the picture shows; 0 for an aligned crop
    reason: str  #: Why there is no face: one sentence; empty where there is one
    notes: tuple[str, ...]  #: What limits the use of its faces, one sentence each
    faces: tuple[Record, ...]  #: `FaceCrop.facts` of each, and the `norm` of its raw embedding
    embeddings: npt.NDArray[np.float32]  #: Unit-length, (faces, dim)


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


@dataclass(frozen=True)
class Stored:
    """A picture in a set that keeps many in a file."""

    pictures: EncodedFaces
    number: int

    def __str__(self) -> str:
        return self.pictures.where(self.number)

    def read(self) -> bytes:
        """The encoded picture; InputError where it cannot be read."""
        return self.pictures.content(self.number)


def sources_in(paths: Iterable[str | Path]) -> Iterator[Path | Stored]:
    """`pictures_in`, and the pictures of WebDataset shards, Parquet tables, RecordIO and hf:// among the paths."""
    for path in paths:
        if kind_of(str(path), Path(path)) in ("tar", "parquet", "hub", "rec"):
            pictures = open_encoded(str(path))
            yield from (Stored(pictures, number) for number in range(len(pictures)))
        else:
            yield from pictures_in([path])


def embed_pictures(
    verifier: FaceVerifier,
    pictures: Iterable[Path | Stored],
    journal: Journal,
    workers: int = 2,
    progress: Progress = no_progress,
    people: Mapping[Path | Stored, str] | None = None,
) -> int:
    """Adds a record to `journal` for each picture that is not in it, with the name of its person among `people`.

    Returns how many were added. A picture that cannot be used is recorded with the reason.
    """
    done = {(r["path"], r["bytes"], r["mtime_ns"]) for r in journal.records() if r["sha256"]}

    def look(path: Path | Stored) -> Look:
        name, stamp = named(path), (0, 0) if isinstance(path, Stored) else _stamp(path)
        if (name, *stamp) in done:
            return None, []
        record: Record = {"path": name, "bytes": stamp[0], "mtime_ns": stamp[1], "sha256": "", "reason": ""}
        if people:
            record["person"] = people[path]
        try:
            content = path.read() if isinstance(path, Stored) else read_file(path)
            record["sha256"] = hashlib.sha256(content).hexdigest()
            return record, verifier.crops(content, name)
        except InputError as error:
            return {**record, "reason": str(error)}, []

    added = 0
    for looks in _batches(map_ahead(look, pictures, workers, 4 * max(1, workers))):
        rows, norms = verifier.embed_with_norms([crop for _, crops in looks for crop in crops])
        at = 0
        for record, crops in looks:
            if record is None:
                continue
            here = slice(at, at + len(crops))
            faces = [{**crop.facts(), "norm": float(n)} for crop, n in zip(crops, norms[here], strict=True)]
            shown = len(crops[0].faces) if crops else 0
            notes = list(dict.fromkeys(note for crop in crops for note in crop.notes))
            packed = base64.b64encode(rows[here].tobytes()).decode()
            journal.append({**record, "notes": notes, "shown": shown, "faces": faces, "embeddings": packed})
            at, added = here.stop, added + 1
        progress(len(looks))
    return added


def found_in(journal: Journal) -> Iterator[Found]:
    """Each picture's latest record in a journal, in the order of recording."""
    latest = {record["path"]: number for number, record in enumerate(journal.records())}
    for number, record in enumerate(journal.records()):
        if latest[record["path"]] == number:  # else the picture changed between two runs
            faces = tuple(record["faces"])
            rows = np.frombuffer(base64.b64decode(record["embeddings"]), np.float32)
            rows = rows.reshape(len(faces), len(rows) // max(1, len(faces)))
            told = record["reason"], tuple(record["notes"])
            yield Found(record["path"], record["sha256"], record["shown"], *told, faces, rows)


def _batches(looks: Iterable[Look]) -> Iterator[list[Look]]:
    held: list[Look] = []
    for look in looks:
        held.append(look)
        if sum(max(1, len(crops)) for _, crops in held) >= BATCH:
            yield held
            held = []
    if held:
        yield held


def named(picture: Path | Stored) -> str:
    """What messages and tables call a picture."""
    return str(picture) if isinstance(picture, Stored) else printable(picture)


def _stamp(path: Path) -> tuple[int, int]:
    """(bytes, nanoseconds), which change with a file's content; zeros where there is no file."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns
