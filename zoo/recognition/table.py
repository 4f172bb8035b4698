"""Embeddings as a table, one row per face: .npz for numpy, .parquet for everything else."""

import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.formats.images import printable
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import Found, embed_pictures, found_in, named, sources_in
from zoo.recognition.journal import Journal, partial_of
from zoo.recognition.verifier import FaceVerifier

MEASURES = ("score", "blur", "eye_distance", "turn", "nod", "brightness", "cut", "norm")  #: NaN for aligned crops
ROWS_AT_ONCE = 4096  #: Rows of a Parquet row group; no more are in memory at once

Row = dict[str, Any]  #: Column → value; of a picture without a face path, sha256 and reason alone


@dataclass(frozen=True)
class Table:
    """A table of embeddings that was written."""

    path: Path
    pictures: int  #: How many pictures there are
    embedded_now: int  #: How many of them this call embedded; the others were done before an interruption
    faces: int  #: How many rows have an embedding
    failures: tuple[str, ...]  #: Why pictures have none, one sentence each

    def to_json(self) -> str:
        """One JSON object, as `zoo embed --json` prints it."""
        facts = {name: value for name, value in vars(self).items() if name != "path"}
        return json.dumps({**facts, "output": str(self.path), "failed": len(self.failures)}, indent=2)


def embed_to_table(
    paths: Iterable[str | Path],
    output: str | Path,
    verifier: FaceVerifier,
    overwrite: bool = False,
    workers: int = 2,
    bar: Bar = no_bar,
    shard: tuple[int, int] = (1, 1),
) -> Table:
    """Embeds the pictures at `paths` and in the folders among them: what `zoo embed` does.

    A path may also be WebDataset shards, a Parquet table, RecordIO or hf://datasets/…, as for `zoo train --data`. Of
    `shard` (i, n) the i-th of n equal parts is embedded, from 1 on, so that n machines share the work.

    Columns: path, sha256, box (left, top, width, height), landmarks (5 × 2), score, faces (shown in the picture),
    blur, eye_distance, turn, nod, brightness, cut, norm, embedding (unit-length); NaN where an aligned crop has none. A
    picture that cannot be used is among the table's failures, a row without an embedding in Parquet, and an entry of
    `failed` and `reasons` in .npz. After an interruption the next call resumes from OUTPUT.partial. InputError for an
    output that exists, unless `overwrite`, or is neither .npz nor .parquet, and where there is no picture.
    """
    output = Path(output)
    require_table_name(output)
    partial = partial_of(output)
    if output.exists() and not partial.exists() and not overwrite:
        raise InputError(f"expected no file at {output} yet, found one; give --overwrite, or another name")
    paths = list(paths)
    pictures, (part, parts) = list(dict.fromkeys(sources_in(paths))), shard
    if not 1 <= part <= parts:
        raise InputError(f"expected a shard from 1/{parts} to {parts}/{parts}, found {part}/{parts}")
    pictures = pictures[len(pictures) * (part - 1) // parts : len(pictures) * part // parts]
    if not pictures:
        raise InputError(f"expected pictures in {' '.join(map(printable, paths))}, found none")
    wanted = set(map(named, pictures))
    with Journal(partial, verifier.how()) as journal:
        with bar("embed", len(pictures)) as progress:
            added = embed_pictures(verifier, pictures, journal, workers, progress)
        write = _write_npz if output.suffix == ".npz" else _write_parquet
        found = (one for one in found_in(journal) if one.path in wanted)
        with atomic_path(output) as temporary:
            faces, failures = write(temporary, (row for one in found for row in _rows(one)), verifier.dim)
        journal.delete()
    return Table(output, len(pictures), added, faces, tuple(failures))


def require_table_name(path: Path) -> None:
    """InputError unless a table can be written to a file of this name."""
    if path.suffix not in (".npz", ".parquet"):
        raise InputError(f"expected an output ending in .npz or .parquet, found {path}")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise InputError("writing Parquet needs one more package: pip install 'timm-face-zoo[parquet]', or choose .npz")


def _rows(found: Found) -> Iterator[Row]:
    named = {"path": found.path, "sha256": found.sha256}
    if found.reason:
        yield {**named, "reason": found.reason}
    for face, embedding in zip(found.faces, found.embeddings, strict=True):
        measures = {**face, **face["quality"]}
        numbers = {name: np.nan if measures[name] is None else measures[name] for name in MEASURES}
        box, landmarks = face["box"] or [np.nan] * 4, np.ravel(face["landmarks"] or [np.nan] * 10)
        yield {**named, "box": box, "landmarks": landmarks, "faces": found.shown, **numbers, "embedding": embedding}


def _write_npz(path: Path, rows: Iterable[Row], dim: int) -> tuple[int, list[str]]:
    every = list(rows)
    good, failed = ([row for row in every if ("reason" in row) == fails] for fails in (False, True))
    arrays = {name: np.array([row[name] for row in good]) for name in (good[0] if good else ())}
    if good:
        arrays["landmarks"] = arrays["landmarks"].reshape(-1, 5, 2)
    arrays["embedding"] = np.array([row["embedding"] for row in good], np.float32).reshape(-1, dim)
    reasons = [row["reason"] for row in failed]
    arrays["failed"], arrays["reasons"] = np.array([row["path"] for row in failed], np.str_), np.array(reasons, np.str_)
    with open(path, "wb") as file:  # np.savez would add .npz to the temporary name
        np.savez(file, allow_pickle=False, **arrays)
    return len(good), reasons


def _write_parquet(path: Path, rows: Iterable[Row], dim: int) -> tuple[int, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    columns = {"path": text, "sha256": text, "box": pa.list_(number, 4), "landmarks": pa.list_(number, 10)}
    columns |= {"faces": pa.int32(), **dict.fromkeys(MEASURES, number)}
    schema = pa.schema({**columns, "embedding": pa.list_(pa.float32(), dim), "reason": text})
    faces, reasons, waiting = 0, [], iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while held := list(islice(waiting, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(held, schema))
            reasons += [row["reason"] for row in held if "reason" in row]
            faces += sum("embedding" in row for row in held)
    return faces, reasons
