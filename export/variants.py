"""What a smaller file costs: size, latency, cosine, accuracy and TAR beside the float32 file, measured in one run."""

import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from zoo.evaluate.intervals import ACCURACY
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.results import Evaluation, differences
from zoo.export import parity
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

FAR = 0.01  #: The false accept rate of the compared TAR: thousands of negatives measure it
TURNS = 3  #: How often each file's latency is measured, so that load on the machine does not affect one file alone


@dataclass(frozen=True)
class Change:
    """A figure of the variant less that of the float32 file, a fraction, with its paired 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One file of the comparison; the float32 row compares with itself."""

    file: str
    precision: str
    bytes: int
    size_ratio: float  #: Of the float32 file's size
    milliseconds: dict[str, float]  #: Median latency by batch size
    speed: dict[str, float]  #: float32's latency over this one's, by batch size: 2 is twice as fast
    mean_cosine: float  #: To float32's embeddings, over the pictures and their mirror images
    worst_cosine: float
    accuracy: float
    accuracy_change: Change
    tar: float  #: At FAR; NaN where the pairs are too few to measure it
    tar_change: Change


def compare(paths: dict[str, Path], protocol: PairsProtocol, threads: int | None = None) -> list[Row]:
    """A row for each file of `paths` (precision → file), the first being the float32 file that the others compare with.

    Accuracy, TAR and the intervals of their changes are those of `zoo evaluate`, for the sum over a picture and its
    mirror image; the cosine is over both, each alone. Latency is the median of runs that alternate between the files,
    so that load on the machine affects all of them alike.
    """
    embeddings, evaluations = {}, {}
    for name, path in paths.items():
        embedder = OnnxEmbedder(path, device="cpu", threads=threads)
        plain = embed(embedder, protocol.images(), flip=False)
        mirrored = embed(embedder, (None if p is None else p[:, ::-1] for p in protocol.images()), flip=False)
        embeddings[name] = np.concatenate([plain, mirrored])
        evaluations[name] = protocol.score(plain + mirrored)
    times = {batch: latency(paths, batch, threads) for batch in (1, 32)}
    first = next(iter(paths))
    rows = []
    for name, path in paths.items():
        sizes = total_bytes(path), total_bytes(path) / total_bytes(paths[first])
        milliseconds = {str(batch): 1e3 * result[name] for batch, result in times.items()}
        speed = {str(batch): result[first] / result[name] for batch, result in times.items()}
        cosines = parity.row_cosines(embeddings[first], embeddings[name])
        nearness, measured = (float(cosines.mean()), float(cosines.min())), evaluations[name]
        accuracy, tar = changes(evaluations[first], measured)
        rates = measured.accuracy or 0.0, accuracy, measured.tar_at_far[FAR], tar
        rows.append(Row(path.name, name, *sizes, milliseconds, speed, *nearness, *rates))
    return rows


def changes(reference: Evaluation, other: Evaluation) -> tuple[Change, Change]:
    """The changes of accuracy and of TAR from `reference` to `other`, as `zoo evaluate` prints them of these files."""
    if reference is other:
        return Change(0.0, 0.0, 0.0), Change(0.0, 0.0, 0.0)
    found = differences(reference, other)
    both = (found.get(label) for label in (ACCURACY, f"TAR@FAR {FAR:g}"))
    accuracy, tar = (Change(*[np.nan] * 3) if one is None else Change(one.value, *one.interval) for one in both)
    return accuracy, tar


def total_bytes(path: Path) -> int:
    """The size of an ONNX file and of the weights beside it."""
    beside = path.parent / f"{path.name}.data"
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def latency(paths: dict[str, Path], batch: int, threads: int | None = None, seconds: float = 2.0) -> dict[str, float]:
    """Median seconds of one inference at `batch`, by name: about `seconds` per file, in TURNS turns.

    Each turn opens its own session: the idle threads of an open one wait busily and would slow down the next file.
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
    """The duration in seconds of each inference that fits into `seconds`, at least two, after two to warm up."""
    inference()
    inference()
    taken: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(taken) < 2 or time.perf_counter() < deadline:
        taken.append(timeit.timeit(inference, number=1))
    return taken
