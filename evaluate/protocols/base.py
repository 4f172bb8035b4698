"""What every protocol offers: images to embed, then figures from the embeddings. It never loads a model."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.intervals import Estimate
from zoo.evaluate.metrics import SortedScores
from zoo.files import sha256
from zoo.formats.images import Image
from zoo.registry import Registry

Figures = dict[str, Any]
"""Names to numbers, lists and sentences, fit for JSON but for NaN, which stands for "not measurable"."""


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's outcome: the figures, and the curves that a report draws."""

    figures: Figures
    curves: Figures = field(default_factory=dict)


class Protocol(typing.Protocol):
    """A benchmark at hand: embeddings = embed(embedder, protocol.images()); protocol.score(embeddings)."""

    name: str
    """The protocol's name in PROTOCOLS."""
    data: str
    """The benchmark's name, e.g. that of its file."""
    data_sha256: str
    """What the benchmark's content hashes to."""

    def __len__(self) -> int:
        """How many images there are to embed."""
        ...

    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found in it."""
        ...

    def content_sha256(self) -> str:
        """The hash of the pictures and of whatever else the embeddings depend on."""
        ...

    def images(self) -> Iterator[Image | None]:
        """The pictures in the order of the embeddings: RGB uint8 (H, W, 3), one at a time; None without a face."""
        ...

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Figures:
        """The figures for raw embeddings (images, dim), which the protocol normalises as it defines."""
        ...

    def evaluate(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures and the curves."""
        ...


PROTOCOLS: Registry[type[Protocol]] = Registry("protocol")
"""Every protocol's class by its name; the first line of a class's docstring describes it."""

COMPATS = ("insightface",)


def check_embeddings(embeddings: npt.NDArray[np.floating], images: int) -> None:
    """InputError unless there is one embedding an image."""
    if embeddings.ndim != 2 or len(embeddings) != images:
        raise InputError(f"expected one embedding for each of {images} images, found an array of {embeddings.shape}")


def check_compat(compat: str | None) -> None:
    """InputError for a compatibility mode that nobody knows."""
    if compat is not None and compat not in COMPATS:
        raise InputError(f"expected the compatibility mode {' or '.join(COMPATS)}, found {compat!r}")


def hash_files(paths: Sequence[Path]) -> str:
    """One SHA-256 over the names and contents of a benchmark's lists."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def points_figures(
    points: Sequence[metrics.OperatingPoint], estimates: Mapping[str, Estimate] | None = None
) -> Figures:
    """TAR@FAR for JSON: the plain table by target, all that holds at each threshold, and what is not measurable.

    TAR's interval comes from `estimates` where they are given, else it is exact binomial.
    """
    return {
        "tar_at_far": {f"{point.far_target:g}": point.tar for point in points},
        "operating_points": [
            {
                "far_target": point.far_target,
                "threshold": point.threshold,
                "tar": point.tar,
                "tar_interval": metrics.binomial_interval(point.true_accepts, point.positives)
                if estimates is None
                else estimates[f"TAR@FAR {point.far_target:g}"].interval,
                "false_accepts": point.false_accepts,
                "negatives": point.negatives,
                "far": point.far,
                "far_interval": metrics.binomial_interval(point.false_accepts, point.negatives),
            }
            for point in points
            if point.measurable
        ],
        "not_measurable": [point.why_not for point in points if not point.measurable],
    }


def all_equal(scores: SortedScores) -> list[str]:
    """The sentence for scores that tell nothing apart; none where two of them differ."""
    if scores.negatives[0] == scores.negatives[-1] == scores.positives[0] == scores.positives[-1]:
        return [f"all scores are {scores.negatives[0]:g}: the model gives every picture the same embedding"]
    return []


def curves(scores: SortedScores, points: int = 400) -> Figures:
    """What a report draws, small however many pairs there are.

    roc: the exact curve at up to `points` ranks of the negatives, evenly spaced on the logarithmic FAR axis.
    histogram: both kinds' counts over [−1, 1]. sweep: the exact counts above −1, −0.999, …, 1, for a slider.
    """
    negatives, positives = len(scores.negatives), len(scores.positives)
    ranks = np.unique(np.round(np.geomspace(1, negatives, points)).astype(np.int64))
    thresholds = np.unique(scores.negatives[negatives - ranks])[::-1]
    strictest = int(scores.true_accepts(thresholds[0]))  # all that is above every negative
    far = scores.false_accepts(thresholds, inclusive=True) / negatives
    tar = scores.true_accepts(thresholds, inclusive=True) / positives
    edges = np.round(np.linspace(-1, 1, 101), 6)
    grid = np.round(np.linspace(-1, 1, 2001), 6)
    return {
        "roc": {"far": [0.0, *far.tolist()], "tar": [strictest / positives, *tar.tolist()]},
        "histogram": {
            "edges": edges.tolist(),
            "positives": np.histogram(scores.positives, edges)[0].tolist(),
            "negatives": np.histogram(scores.negatives, edges)[0].tolist(),
        },
        "sweep": {
            "positives": positives,
            "negatives": negatives,
            "true_accepts": scores.true_accepts(grid).tolist(),
            "false_accepts": scores.false_accepts(grid).tolist(),
        },
    }
