"""Embeddings as a table, one row per face: .npz for numpy, .parquet for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.formats.photos import printable
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import Found, FoundFace, embed_pictures, found_in, identity, pictures_in
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceVerifier

MEASURES = ("blur", "eye_distance", "turn", "nod")
ROWS_AT_ONCE = 4096
"""Rows of a Parquet row group; no more are in memory at once."""


Row = tuple[Found, FoundFace | None]
"""A picture and one of its faces; None where it has none."""


@dataclass(frozen=True)
class Table:
    """A table of embeddings that was written."""

    path: Path
    pictures: int
    """How many pictures there are."""
    embedded_now: int
    """How many of them this call embedded; the others were done before an interruption."""
    faces: int
    """How many rows have an embedding."""
    failures: tuple[str, ...]
    """Why pictures have none, one sentence each."""

    def to_json(self) -> str:
        """One JSON object, as `zoo embed --json` prints it."""
        facts = {
            "output": str(self.path),
            "pictures": self.pictures,
            "embedded_now": self.embedded_now,
            "faces": self.faces,
            "failed": len(self.failures),
            "failures": self.failures,
        }
        return json.dumps(facts, indent=2)


def embed_to_table(
    paths: Iterable[str | Path],
    output: str | Path,
    verifier: FaceVerifier,
    overwrite: bool = False,
    workers: int = 2,
    bar: Bar = no_bar,
) -> Table:
    """Embeds the pictures at `paths` and in the folders among them: what `zoo embed` does.

    After an interruption the next call resumes from OUTPUT.partial. InputError for an output that exists, unless
    `overwrite`, or is neither .npz nor .parquet, and where there is no picture. A picture that cannot be used is among
    the table's failures.
    """
    output = Path(output)
    require_table_name(output)
    partial = output.with_name(output.name + ".partial")
    if output.exists() and not partial.exists() and not overwrite:
        raise InputError(f"expected no file at {output} yet, found one; give --overwrite, or another name")
    paths = list(paths)
    pictures = list(dict.fromkeys(pictures_in(paths)))
    if not pictures:
        raise InputError(f"expected pictures in {' '.join(map(printable, paths))}, found none")
    with Journal(partial, identity(verifier)) as journal:
        with bar("embed", len(pictures)) as progress:
            added = embed_pictures(verifier, pictures, journal, workers=workers, progress=progress)
        rows, failures = write_table(output, journal, pictures, verifier.embedder.embedding_dim)
        journal.delete()
    return Table(output, len(pictures), added, rows, tuple(failures))


def require_table_name(path: Path) -> None:
    """InputError unless `write_table` can write a file of this name."""
    if path.suffix not in (".npz", ".parquet"):
        raise InputError(f"expected an output ending in .npz or .parquet, found {path}")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise InputError(
                "writing Parquet needs one more package: pip install 'timm-face-zoo[parquet]', or choose .npz"
            ) from None


def write_table(path: Path, journal: Journal, pictures: Iterable[Path], dim: int) -> tuple[int, list[str]]:
    """Writes the faces of `pictures` from a journal, whole or not at all; returns the rows and why pictures failed.

    Columns: path, sha256, box (left, top, width, height), landmarks (5 × 2), score, faces (shown in the picture),
    blur, eye_distance, turn, nod, norm, embedding (unit-length); NaN where an aligned crop has none. A failed
    picture is a row without an embedding in Parquet, and an entry of `failed` and `reasons` in .npz.
    """
    wanted = {printable(picture) for picture in pictures}
    failed: list[str] = []

    def rows() -> Iterator[Row]:
        for found in found_in(journal, dim):
            if found.path not in wanted:
                continue
            if found.reason:
                failed.append(found.reason)
                yield found, None
            yield from ((found, face) for face in found.faces)

    with atomic_path(path) as temporary:
        count = _write_npz(temporary, rows(), dim) if path.suffix == ".npz" else _write_parquet(temporary, rows(), dim)
    return count, failed


def _columns(found: Found, face: FoundFace) -> dict[str, Any]:
    nan = float("nan")
    quality = asdict(face.quality)
    return {
        "path": found.path,
        "sha256": found.sha256,
        "box": face.box or [nan] * 4,
        "landmarks": np.ravel(face.landmarks).tolist() if face.landmarks else [nan] * 10,
        "score": nan if face.score is None else face.score,
        "faces": found.shown,
        **{name: nan if quality[name] is None else quality[name] for name in MEASURES},
        "norm": face.norm,
    }


def _write_npz(path: Path, rows: Iterable[Row], dim: int) -> int:
    table: dict[str, list[Any]] = {}
    embeddings, failed, reasons = [], [], []
    for found, face in rows:
        if face is None:
            failed.append(found.path)
            reasons.append(found.reason)
            continue
        for name, value in _columns(found, face).items():
            table.setdefault(name, []).append(value)
        embeddings.append(face.embedding)
    arrays = {name: np.array(values) for name, values in table.items()}
    if embeddings:
        arrays["landmarks"] = arrays["landmarks"].reshape(-1, 5, 2)
    arrays["embedding"] = np.array(embeddings, np.float32).reshape(-1, dim)
    arrays["failed"], arrays["reasons"] = np.array(failed, np.str_), np.array(reasons, np.str_)
    with open(path, "wb") as file:  # np.savez would add .npz to the temporary name
        np.savez(file, allow_pickle=False, **arrays)
    return len(embeddings)


def _write_parquet(path: Path, rows: Iterable[Row], dim: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("path", pa.string()),
            ("sha256", pa.string()),
            ("box", pa.list_(pa.float64(), 4)),
            ("landmarks", pa.list_(pa.float64(), 10)),
            ("score", pa.float64()),
            ("faces", pa.int32()),
            *((name, pa.float64()) for name in MEASURES),
            ("norm", pa.float64()),
            ("embedding", pa.list_(pa.float32(), dim)),
            ("reason", pa.string()),
        ]
    )
    count, held = 0, []
    with pq.ParquetWriter(path, schema) as writer:
        for found, face in rows:
            if face is None:
                held.append({"path": found.path, "sha256": found.sha256, "reason": found.reason})
            else:
                held.append({**_columns(found, face), "embedding": face.embedding.tolist()})
                count += 1
            if len(held) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_pylist(held, schema))
    return count
