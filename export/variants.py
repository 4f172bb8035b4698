"""What a smaller file costs: size, latency, cosine, accuracy and TAR beside the float32 file, both in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.evaluate import metrics
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.export import parity
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

FAR = 0.01
"""The false accept rate of the TAR that is compared: thousands of negatives measure it."""
TURNS = 3
"""How often each file's latency is measured, so that a busy moment of the machine does not hit one file alone."""
RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""


@dataclass(frozen=True)
class Change:
    """A figure of the variant less that of the float32 file, a fraction, with the paired bootstrap's 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One file of the comparison; the float32 row compares with itself."""

    file: str
    precision: str
    bytes: int
    size_ratio: float
    """Of the float32 file's size."""
    milliseconds: dict[str, float]
    """Median latency by batch size."""
    speed: dict[str, float]
    """float32's latency over this one's, by batch size: 2 is twice as fast."""
    mean_cosine: float
    """To float32's embeddings, over the pictures and their mirror images."""
    worst_cosine: float
    accuracy: float
    accuracy_change: Change
    tar: float
    tar_change: Change


@dataclass(frozen=True)
class Scores:
    """What one model scores on the pairs."""

    cosines: npt.NDArray[np.float64]
    """(pairs,)."""
    same: npt.NDArray[np.bool_]
    """(pairs,)."""
    correct: npt.NDArray[np.bool_]
    """(pairs,): right at the threshold that the other folds chose."""

    @classmethod
    def of(cls, cosines: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> Scores:
        """Scores with each pair judged as 10-fold accuracy judges it."""
        result = metrics.kfold_accuracy(cosines, same, min(10, len(same)))
        folds = np.array_split(np.arange(len(same)), len(result.thresholds))
        thresholds = np.concatenate([np.full(len(f), t) for f, t in zip(folds, result.thresholds, strict=True)])
        return cls(cosines, same, (cosines > thresholds) == same)

    def tar(self, rows: npt.NDArray[np.int64] | slice = slice(None)) -> float:
        """TAR at FAR of the pairs `rows`; NaN where they cannot measure it."""
        return metrics.tar_at_far(SortedScores.of(self.cosines[rows], self.same[rows]), FAR).tar


def compare(paths: dict[str, Path], protocol: PairsProtocol, threads: int | None = None) -> list[Row]:
    """A row for each file of `paths` (precision → file), the first being the float32 file that the others are beside.

    Accuracy and TAR are those of `zoo evaluate`, of the sum over a picture and its mirror image; the cosine is over
    both, each alone. Latency is the median of runs that take turns, so that a busy machine slows all files alike.
    """
    embeddings, scores = {}, {}
    for name, path in paths.items():
        embedder = OnnxEmbedder(path, device="cpu", threads=threads)
        plain = embed(embedder, protocol.images(), flip=False)
        mirrored = embed(embedder, (None if p is None else p[:, ::-1] for p in protocol.images()), flip=False)
        embeddings[name] = np.concatenate([plain, mirrored])
        scores[name] = Scores.of(protocol.cosines(plain + mirrored), protocol.same)
    times = {batch: latency(paths, batch, threads) for batch in (1, 32)}
    first = next(iter(paths))
    reference_bytes = total_bytes(paths[first])
    rows = []
    for name, path in paths.items():
        cosines = parity.row_cosines(embeddings[first], embeddings[name])
        rows.append(
            Row(
                file=path.name,
                precision=name,
                bytes=total_bytes(path),
                size_ratio=total_bytes(path) / reference_bytes,
                milliseconds={str(batch): 1e3 * result[name] for batch, result in times.items()},
                speed={str(batch): result[first] / result[name] for batch, result in times.items()},
                mean_cosine=float(cosines.mean()),
                worst_cosine=float(cosines.min()),
                accuracy=float(scores[name].correct.mean()),
                accuracy_change=accuracy_change(scores[first], scores[name]),
                tar=scores[name].tar(),
                tar_change=tar_change(scores[first], scores[name]),
            )
        )
    return rows


def total_bytes(path: Path) -> int:
    """The size of an ONNX file and of the weights beside it."""
    beside = path.parent / f"{path.name}.data"
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def latency(paths: dict[str, Path], batch: int, threads: int | None = None, seconds: float = 2.0) -> dict[str, float]:
    """Median seconds of one inference at `batch`, by name: each file some `seconds`, in TURNS with the others.

    A turn opens a session of its own: the idle threads of an open one wait busily and would slow whoever comes next.
    """
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(TURNS):
        for name, path in paths.items():
            session = parity.session(path, optimise=True, threads=threads, spin=True)
            node = session.get_inputs()[0]
            pixels = np.random.default_rng(0).uniform(-1, 1, (batch, *node.shape[1:])).astype(np.float32)
            taken[name] += seconds_of(partial(session.run, None, {node.name: pixels}), seconds / TURNS)
    return {name: float(np.median(values)) for name, values in taken.items()}


def seconds_of(inference: Callable[[], object], seconds: float) -> list[float]:
    """The seconds that each of the inferences took that fit into `seconds`, at least 2, after two to warm up."""
    inference()
    inference()
    taken: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(taken) < 2 or time.perf_counter() < deadline:
        start = time.perf_counter()
        inference()
        taken.append(time.perf_counter() - start)
    return taken


def accuracy_change(reference: Scores, other: Scores) -> Change:
    """The change of accuracy, from pairs drawn with replacement, each with both models' judgement of it."""
    gain = other.correct.astype(np.int64) - reference.correct.astype(np.int64)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(gain), [float(np.mean(gain == k)) for k in (-1, 0, 1)], size=RESAMPLES)
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / len(gain), [0.025, 0.975])
    return Change(float(gain.mean()), float(low), float(high))


def tar_change(reference: Scores, other: Scores) -> Change:
    """The change of TAR@FAR, from both kinds of pairs drawn with replacement, the threshold found anew each time."""
    if reference is other:
        return Change(0.0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    positives, negatives = np.flatnonzero(reference.same), np.flatnonzero(~reference.same)
    changes = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rng.choice(positives, len(positives)), rng.choice(negatives, len(negatives))])
        changes.append(other.tar(rows) - reference.tar(rows))
    low, high = np.quantile(changes, [0.025, 0.975])
    return Change(other.tar() - reference.tar(), float(low), float(high))


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows for export.json; what these pairs cannot measure is None."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(inner) for name, inner in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return [clean(asdict(row)) for row in rows]
