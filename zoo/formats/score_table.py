"""Raw scores as a Parquet table, a row a pair."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained, needs
from zoo.files import atomic_path

TEXTS = ("model", "model_sha256", "benchmark", "benchmark_sha256", "image_a", "image_b", "person_a", "person_b")
PERSONAL = "who resembles whom is personal data: keep it as you keep the pictures, and delete it when you are done"


class ScoreTable:
    """A table that benchmarks are added to."""

    def __init__(self, writer: Any) -> None:
        self.writer, self.rows = writer, 0

    def add(self, named: Mapping[str, str], columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Adds the pairs of a benchmark: image_a, image_b, same, score and, where known, the others, (pairs,) each.

        `named` is what all of them have in common: model, benchmark, … InputError where the disk is full.
        """
        import pyarrow as pa

        pairs, schema = len(columns["score"]), self.writer.schema
        given = {**{name: np.repeat(text, pairs) for name, text in named.items()}, **columns}
        held = [pa.array(given.get(one.name, np.full(pairs, None))).cast(one.type) for one in schema]
        advice = "choose another place for --scores"
        with explained("cannot write the scores", OSError, pa.ArrowException, advice=advice):
            self.writer.write_table(pa.Table.from_arrays(held, schema=schema))
        self.rows += pairs


@contextlib.contextmanager
def score_table(path: str | Path | None) -> Iterator[ScoreTable | None]:
    """A new table at `path`, there when the block ends well; None without a path; InputError if it cannot be made."""
    if path is None:
        yield None
        return
    path = Path(path)
    if path.suffix != ".parquet":
        raise InputError(f"expected a file name ending in .parquet for the scores, found {path}")
    with needs("pyarrow", "parquet", "to write scores"):
        import pyarrow as pa
        import pyarrow.parquet as parquet
    fields = {**dict.fromkeys(TEXTS, pa.string()), "same": pa.bool_(), "score": pa.float64(), "ln_lr": pa.float64()}
    schema = pa.schema(fields, {"personal data": PERSONAL})
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        yield ScoreTable(writer)
