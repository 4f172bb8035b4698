"""From many pictures to embeddings, aligned crops or verdicts on pairs: read ahead, in batches, each recorded."""

import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.data.open import kind_of, open_people
from zoo.errors import InputError
from zoo.evaluate.metrics import SortedScores, auc, eer, tar_at_far
from zoo.faces.detect import FaceDetector
from zoo.faces.finder import FaceCrop, FaceFinder, FaceRule
from zoo.files import new_folder, write_bytes
from zoo.formats.images import PHOTO_SUFFIXES, encode_jpeg, encode_png, printable, read_file
from zoo.formats.pairs import read_pairs_csv
from zoo.formats.read_ahead import map_ahead
from zoo.messages import Bar, Progress, no_bar, no_progress
from zoo.recognition.journal import Journal, Record, spare_journal
from zoo.recognition.threshold import Decision
from zoo.recognition.verifier import FaceVerifier

BATCH = 32  #: Pictures whose faces go through the model together


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
            yield from (Path(folder, name) for name in sorted(files) if name.lower().endswith(PHOTO_SUFFIXES))


@dataclass(frozen=True)
class Stored:
    """A picture in a set that keeps many in a file."""

    pictures: EncodedFaces
    number: int

    def __str__(self) -> str:
        return self.pictures.where(self.number)

    def read(self) -> bytes:
        return self.pictures.content(self.number)


def sources_in(paths: Iterable[str | Path]) -> Iterator[Path | Stored]:
    """`pictures_in`, and the pictures of WebDataset shards, Parquet tables, RecordIO and hf:// among the paths."""
    for path in paths:
        if kind_of(str(path), Path(path)) in ("tar", "parquet", "hub", "rec"):
            pictures = open_people(str(path))
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
    """Adds the faces of each picture, or why it has none, to `journal` where it is not in it; returns how many."""
    done = {(r["path"], r["bytes"], r["mtime_ns"]) for r in journal.records() if r["sha256"]}

    def look(path: Path | Stored) -> tuple[Record | None, list[FaceCrop]]:
        """The record and the faces of a picture; None where it was done before."""
        name, size, changed = printable(str(path)), 0, 0
        with contextlib.suppress(OSError):
            if isinstance(path, Path):
                size, changed = path.stat().st_size, path.stat().st_mtime_ns
        if (name, size, changed) in done:
            return None, []
        record: Record = {"path": name, "bytes": size, "mtime_ns": changed, "sha256": "", "reason": ""}
        if people:
            record["person"] = people[path]
        try:
            content = path.read() if isinstance(path, Stored) else read_file(path)
            record["sha256"] = hashlib.sha256(content).hexdigest()
            return record, verifier.crops(content, name)
        except InputError as error:
            return {**record, "reason": str(error)}, []

    added = 0
    ahead = map_ahead(look, pictures, workers, 4 * max(1, workers))
    while looks := list(islice(ahead, BATCH)):
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


@dataclass(frozen=True)
class Aligned:
    """A folder of crops that is complete."""

    photos: int  #: How many photos were looked at, now or before an interruption
    crops: int
    skipped: int  #: How many photos have no crop
    log: Path  #: The file that says why, one line per photo

    def to_json(self) -> str:
        """One JSON object, as `zoo align --json` prints it."""
        return json.dumps({"photos": self.photos, "crops": self.crops, "skipped": self.skipped}, indent=2)


def align_photos(
    photos: str | Path,
    output: str | Path,
    detector: str | Path | FaceDetector | None = None,
    face: FaceRule = "largest",
    size: int = 112,
    suffix: str = "png",
    workers: int = 2,
    bar: Bar = no_bar,
) -> Aligned:
    """Cuts the faces out of the photos below a folder into the same sub-folders of `output`: what `zoo align` does.

    The crops are `size` × `size` pixels, as "png" or "jpg". A crop has its photo's name, suffix included (ada/1.jpg →
    ada/1.jpg.png), so that no two photos share a crop; with face="all", .0, .1 … number the faces from left to right.
    The log in `output` has one line per photo: its crops with their warnings, or the reason why there is none; where a
    photo has several lines, the last one counts. After an interruption the next call resumes. InputError where there
    is no photo, where `output` lies inside `photos`, and where the crops in it were made with other options.
    """
    source, target = Path(photos), Path(output)
    finder = FaceFinder(detector, face, (size, size))
    if suffix not in ("png", "jpg"):
        raise InputError(f"expected crops as png or jpg, found {suffix!r}")
    if not source.is_dir():
        raise InputError(f"expected a folder of photos at {source}, found none; check the path")
    if not 16 <= size <= 1024:
        raise InputError(f"expected a crop size from 16 to 1024 pixels, found {size}")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"expected an output outside {source}, found {target}: crops would be taken for photos")
    found = [photo.relative_to(source) for photo in pictures_in([source])]
    if not found:
        raise InputError(f"expected photos in {source}, found none")
    how = {"detector": finder.detector.sha256, "face": face, "size": [size, size], "suffix": suffix}
    with new_folder(target), Journal(target / "align.jsonl", how) as log, bar("align", len(found)) as progress:
        for file in target.rglob(f".*.{suffix}.*"):  # the temporary files of a killed run, which end in random letters
            if re.fullmatch(rf"\..+\.{suffix}\.[a-z0-9_]{{8}}", file.name):
                file.unlink(missing_ok=True)
        crops = {line["photo"]: [crop["crop"] for crop in line["crops"]] for line in log.records()}
        done = {photo: len(names) for photo, names in crops.items() if all((target / name).is_file() for name in names)}
        counts = [done[name] for photo in found if (name := printable(photo)) in done]
        progress(len(counts))
        waiting = (photo for photo in found if printable(photo) not in done)

        def cut(photo: Path) -> Record:
            """Writes the crops of a photo, each whole or not at all; its line for the log."""
            line: Record = {"photo": printable(photo), "crops": [], "reason": ""}
            try:
                faces = finder.crops(source / photo)
            except InputError as error:
                return {**line, "reason": str(error)}
            (target / photo.parent).mkdir(parents=True, exist_ok=True)
            for number, one in enumerate(faces):
                name = photo.with_name(f"{photo.name}{f'.{number}' if face == 'all' else ''}.{suffix}")
                write_bytes(target / name, encode_png(one.crop) if suffix == "png" else encode_jpeg(one.crop))
                told = {"crop": printable(name), "faces": len(one.faces), "warnings": one.quality.warnings()}
                line["crops"].append({**told, **one.facts()})
            return line

        for line in map_ahead(cut, waiting, workers, 4 * max(1, workers)):
            log.append(line)
            counts.append(len(line["crops"]))
            progress(1)
    return Aligned(len(found), sum(counts), counts.count(0), log.path)


@dataclass(frozen=True)
class PairAnswer:
    """One row of the list."""

    a: Path
    b: Path
    truth: bool | None  #: Whether the two show the same person; None where the list does not say
    similarity: float | None = None  #: None where one of the pictures cannot be used
    same: bool | None = None  #: The verdict; None without a threshold or a similarity
    reason: str | None = None  #: Why there is no similarity: one sentence
    notes: tuple[str, ...] = ()  #: What limits the answer, one sentence each

    @property
    def right(self) -> bool | None:
        """Whether the verdict is the truth; None where one of them is missing."""
        return None if self.same is None or self.truth is None else self.same == self.truth


@dataclass(frozen=True)
class Summary:
    """The figures of the rows with a known truth."""

    auc: float
    eer: float
    tar_at_far: dict[float, float]  #: True accept rate by false accept rate, as far as the list can measure
    separating: tuple[float, float] | None  #: (highest of two people, lowest of one) where a threshold separates all
    right: int
    judged: int  #: How many rows have both a verdict and a truth


@dataclass(frozen=True)
class VerifiedPairs:
    """The answers to a list of pairs."""

    rows: tuple[PairAnswer, ...]  #: One for each pair, in the order of the list
    decision: Decision  #: The threshold and where it comes from
    model: Path  #: The ONNX file

    @property
    def failed(self) -> list[PairAnswer]:
        return [row for row in self.rows if row.similarity is None]

    @property
    def scores(self) -> SortedScores | None:
        """The similarities of the rows with a known truth; None unless there are some of both kinds."""
        known = [(row.similarity, row.truth) for row in self.rows if None not in (row.similarity, row.truth)]
        similarities, truths = np.array(known, np.float64).reshape(-1, 2).T
        return SortedScores.of(similarities, truths > 0) if 0 < truths.sum() < len(truths) else None

    @property
    def summary(self) -> Summary | None:
        """The figures of `scores`, where there are any."""
        scores = self.scores
        if scores is None:
            return None
        points = [tar_at_far(scores, far) for far in (0.1, 0.01, 0.001, 0.0001)]
        worst, best = float(scores.negatives[-1]), float(scores.positives[0])
        judged = [row.right for row in self.rows if row.right is not None]
        rates = {point.far_target: point.tar for point in points if point.measurable}
        separating = (worst, best) if worst < best else None
        return Summary(auc(scores), eer(scores), rates, separating, sum(judged), len(judged))

    def to_json(self) -> str:
        """One JSON object, as `zoo verify --pairs --json` prints it."""
        pairs, summary = [asdict(row) for row in self.rows], self.summary
        answer = {"model": self.model, **self.decision.facts(), "pairs": pairs, "failed": len(self.failed)}
        return json.dumps({**answer, "summary": summary and asdict(summary)}, indent=2, default=str)


def verify_pairs(path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> VerifiedPairs:
    """Verifies the pairs of a CSV with the columns a, b and same: what `zoo verify --pairs` does.

    Unlike the benchmark of pairs, a row needs no truth, and a picture that cannot be used fails its own rows alone.
    Each picture is read once. InputError for what is no such list, and for a verifier that takes all faces, as a row
    compares two.
    """
    if verifier.face == "all":
        raise InputError("expected --face largest or central with --pairs, found all: a row compares two faces")
    pairs = read_pairs_csv(path)
    pictures = list(dict.fromkeys(picture for a, b, _ in pairs for picture in (a, b)))
    with spare_journal() as journal, bar("verify", len(pictures)) as progress:
        embed_pictures(verifier, pictures, journal, workers, progress)
        found = {one.path: one for one in found_in(journal)}
    rows = []
    for a, b, truth in pairs:
        first, second = found[printable(a)], found[printable(b)]
        if reason := first.reason or second.reason:
            rows.append(PairAnswer(a, b, truth, reason=reason))
            continue
        similarity = float(np.clip(np.dot(*(one.embeddings[0].astype(np.float64) for one in (first, second))), -1, 1))
        notes = tuple(dict.fromkeys((*first.notes, *second.notes)))
        rows.append(PairAnswer(a, b, truth, similarity, verifier.decision.accepts(similarity), notes=notes))
    return VerifiedPairs(tuple(rows), verifier.decision, verifier.model)
