"""What a benchmark says of a model: the figures, what they were counted on, and the curves that a report draws."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from zoo.evaluate.groups import Groups
from zoo.evaluate.intervals import ACCURACY, Difference, Estimate, Interval, difference, unpack
from zoo.evaluate.metrics import Bools, SortedScores
from zoo.modelinfo import ModelInfo

WRITTEN_EMPTY = {"compat", "info", "groups", "threshold", "notes", "not_measurable", "not_measured"}
WRITTEN_EMPTY |= {"tpir_at_fpir", "tpir_interval"}  #: Fields that format 1 holds even where they are empty


def to_json(value: Any) -> Any:
    """`value` as json.dump takes it, and as format 1 of report.json has it.

    A dataclass is an object of its fields without those that hold nothing. NaN ("not measurable") is null, and a number
    that is a key is written in its shortest form.
    """
    if isinstance(value, ModelInfo):
        return json.loads(value.to_json())
    if isinstance(value, Estimate):
        return value.packed()
    if is_dataclass(value):
        held = {one.name: getattr(value, one.name) for one in fields(value) if one.metadata.get("written", True)}
        kept = {name: item for name, item in held.items() if name in WRITTEN_EMPTY or item not in (None, {}, [], ())}
        return {name: to_json(item) for name, item in kept.items()}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else f"{key:g}": to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Point:
    """What holds at the threshold of one false accept rate, with 95 % intervals."""

    far_target: float  #: The false accept rate that was asked for
    threshold: float
    tar: float
    tar_interval: Interval
    false_accepts: int
    negatives: int
    far: float  #: The false accept rate that the threshold has on these pairs: at most the target
    far_interval: Interval


@dataclass(frozen=True)
class Identification:
    """A search of probes in one gallery, by rank and by false positive identification rate (FPIR)."""

    mated_probes: int  #: Probes whose person the gallery holds
    non_mated_probes: int
    rank: Mapping[int, float]  #: The share of mated probes with fewer than n entries of others at or above their mate
    rank_interval: Mapping[int, Interval]
    tpir_at_fpir: Mapping[float, float] = field(default_factory=dict)
    """The share of mated probes at rank 1 above the threshold of that FPIR; NaN where it is not measurable."""
    tpir_interval: Mapping[float, Interval] = field(default_factory=dict)
    intervals: str | None = None  #: How the intervals were found, in words


@dataclass(frozen=True)
class Failures:
    """Pictures without a usable face, and what became of them."""

    images: int
    of: int  #: The pictures in all
    pairs: int  #: Pairs that hold such a picture
    policy: str
    cut: str  #: How the faces were cut out of the pictures; empty for aligned crops
    templates: int | None = None  #: IJB: templates without any other picture


@dataclass(frozen=True)
class RocPoints:
    """TAR over FAR, both (points,), from the strictest threshold on."""

    far: Sequence[float]
    tar: Sequence[float]

    @classmethod
    def of(cls, scores: SortedScores, points: int = 400) -> "RocPoints":
        """The exact curve at up to `points` ranks of the negatives, evenly spaced on the logarithmic FAR axis."""
        negatives, positives = len(scores.negatives), len(scores.positives)
        ranks = np.unique(np.round(np.geomspace(1, negatives, points)).astype(np.int64))
        thresholds = np.unique(scores.negatives[negatives - ranks])[::-1]
        strictest = int(scores.true_accepts(thresholds[0]))  # all that is above every negative
        far = scores.false_accepts(thresholds, inclusive=True) / negatives
        tar = scores.true_accepts(thresholds, inclusive=True) / positives
        return cls([0.0, *far.tolist()], [strictest / positives, *tar.tolist()])


@dataclass(frozen=True)
class Histogram:
    """How many scores of both kinds of pairs lie between neighbouring `edges`."""

    edges: Sequence[float]
    positives: Sequence[int]
    negatives: Sequence[int]


@dataclass(frozen=True)
class Sweep:
    """How many pairs are accepted above −1, −0.999, …, 1."""

    positives: int
    negatives: int
    true_accepts: Sequence[int]
    false_accepts: Sequence[int]


@dataclass(frozen=True)
class Rejection:
    """The false non-match rates at FAR `far` that stay when shares of the pairs are rejected for their low norms."""

    far: float
    rejected: Sequence[float]
    fnmr: Sequence[float]


@dataclass(frozen=True)
class Hardest:
    """The most similar pairs of two people and the least similar of one: (pair, similarity)."""

    false_accepts: Sequence[tuple[int, float]] = ()
    false_rejects: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Curves:
    """What a report draws, and what two models are compared by; None or empty where a protocol has no such thing."""

    roc: RocPoints | None = None
    histogram: Histogram | None = None
    sweep: Sweep | None = None
    cmc: Mapping[str, Sequence[float]] = field(default_factory=dict)  #: By gallery: the share found within rank 1, 2, …
    open_set: Mapping[str, RocPoints] = field(default_factory=dict)  #: By gallery: TPIR over FPIR, without a mate
    rejection: Rejection | None = None
    hardest: Hardest | None = None
    right: str | None = None  #: Which pairs the model has right, as `intervals.pack` writes it
    estimates: Mapping[str, Estimate] = field(default_factory=dict)  #: Figures in every draw of people or pairs

    @classmethod
    def of(cls, scores: SortedScores, points: int = 400, **more: Any) -> "Curves":
        """What a report draws of scores, small however many pairs there are, and `more` fields.

        histogram: both kinds' counts over [−1, 1]. sweep: the exact counts above −1, −0.999, …, 1, for a slider.
        """
        edges = np.round(np.linspace(-1, 1, 101), 6)
        grid = np.round(np.linspace(-1, 1, 2001), 6)
        counts = (np.histogram(kind, edges)[0].tolist() for kind in (scores.positives, scores.negatives))
        accepted = (found(grid).tolist() for found in (scores.true_accepts, scores.false_accepts))
        return cls(
            roc=RocPoints.of(scores, points),
            histogram=Histogram(edges.tolist(), *counts),
            sweep=Sweep(len(scores.positives), len(scores.negatives), *accepted),
            **more,
        )


@dataclass(frozen=True)
class Thumbnail:
    """Both pictures of a pair as data URIs, for a page that their owner asked for."""

    pair: int
    similarity: float
    pictures: tuple[str, str]


@dataclass(frozen=True)
class Evaluation:
    """One model on one benchmark. Rates are fractions; None or empty stands for what a protocol does not measure."""

    protocol: str  #: The protocol's name in PROTOCOLS
    data: str  #: The benchmark's name, e.g. that of its file.
    data_sha256: str
    compat: str | None  #: Whose definitions the figures follow, where not our own: insightface
    features: str | None = None  #: IJB: N1 keeps norms, D1 weighs by the detector
    flip: bool | None = None  #: Whether embeddings are sums over a picture and its mirror image; None: not known
    images: int | None = None
    people: int | None = None  #: How many people are known to be shown; None where the benchmark does not tell
    templates: int | None = None
    pairs: int | None = None
    positives: int | None = None  #: Pairs of one person
    negatives: int | None = None  #: Pairs of two people
    probes: int | None = None
    gallery: int | None = None
    distractors: int | None = None
    accuracy: float | None = None  #: The mean over folds, each at the threshold that is best on the other folds
    accuracy_std: float | None = None  #: Over folds
    accuracy_interval: Interval | None = None
    folds: int | None = None
    fold_order: str = ""  #: How pairs were dealt into folds, in words; empty in older reports
    fold_accuracies: tuple[float, ...] = ()
    fold_thresholds: tuple[float, ...] = ()
    fold_thresholds_are: str | None = None  #: Cosine similarities, or squared L2 distances
    auc: float | None = None
    auc_interval: Interval | None = None
    eer: float | None = None
    eer_interval: Interval | None = None
    tar_at_far: Mapping[float, float] = field(default_factory=dict)  #: True accept rate by false; NaN: not measurable
    operating_points: tuple[Point, ...] = ()  #: All that holds at each measurable false accept rate
    identification: Mapping[str, Identification] = field(default_factory=dict)  #: By gallery; "" for the only one
    decidability: float | None = None  #: d′, how far apart both kinds of scores lie
    figures: Mapping[str, float] = field(default_factory=dict)  #: Further figures of a protocol, by label
    groups: Mapping[str, Groups] = field(default_factory=dict)  #: Groups at one threshold, by the column that has them
    failures: Failures | None = None
    intervals: str | None = None  #: How the intervals were found, in words
    not_measurable: tuple[str, ...] = ()  #: What these pairs are too few for, in sentences
    notes: tuple[str, ...] = ()  #: What else a reader should know, in sentences
    curves: Curves = field(default_factory=Curves)
    thumbnails: Mapping[str, Sequence[Thumbnail]] = field(default_factory=dict, metadata={"written": False})
    """The hardest pairs' faces: never part of report.json, since faces are not ours to pass around."""

    def to_json(self, curves: bool = True) -> dict[str, Any]:
        """The evaluation as report.json holds it, or its figures alone."""
        found: dict[str, Any] = to_json(self)
        if not curves:
            del found["curves"]
        return found

    @property
    def how(self) -> str:
        """Everything about the protocol that figures depend on and that differs between results on the same data."""
        flip = "" if self.flip is None else f"F{int(self.flip)}"
        parts = [f"{self.features}{flip}" if self.features else {"": "", "F1": "flip", "F0": "no flip"}[flip]]
        if self.folds:
            parts.append(f"{self.folds} folds {self.fold_order}".strip())
        if self.compat:
            parts.append(f"as {self.compat} computes it")
        return ", ".join(filter(None, parts))

    def measured_as(self, other: "Evaluation") -> bool:
        """Whether nothing that both state of their protocols differs; reports of earlier versions state less."""
        parts = ("features", "flip", "folds", "fold_order")
        known = [(getattr(self, part), getattr(other, part)) for part in parts]
        return self.compat == other.compat and all(a == b or a in (None, "") or b in (None, "") for a, b in known)

    def compared_by(self) -> dict[str, Estimate | Bools]:
        """What `differences` compares, by label."""
        found: dict[str, Estimate | Bools] = dict(self.curves.estimates)
        if ACCURACY not in found and self.curves.right is not None and self.pairs:
            found = {ACCURACY: unpack(self.curves.right, self.pairs), **found}
        return found


def differences(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """How every figure of the second model differs from the first one's on the same benchmark, where both have it."""
    known = first.compared_by()
    if first.compat != second.compat:
        known.pop(ACCURACY, None)
    both = {label: difference(known[label], one) for label, one in second.compared_by().items() if label in known}
    return {label: one for label, one in both.items() if one is not None}
