"""Verification metrics: every figure is a pure function of arrays, counted exactly over scores sorted once.

A pair is accepted when its score is greater than the threshold. Rates are fractions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from zoo.errors import InputError

Floats = npt.NDArray[Any]  #: float32 or float64
Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SortedScores:
    """The scores of both kinds of pairs, each sorted once, so that every count is a binary search."""

    positives: Floats  #: The same-person pairs' scores, ascending: (positives,)
    negatives: Floats  #: The different-person pairs' scores, ascending: (negatives,)

    @classmethod
    def of(cls, scores: Floats, same: Bools) -> Self:
        """Sorts `scores` (pairs,) by `same` (pairs,). InputError unless both kinds occur and all scores are finite."""
        if scores.shape != same.shape or scores.ndim != 1:
            raise InputError(f"expected one score and one truth a pair, found {scores.shape} and {same.shape}")
        if len(unusable := np.flatnonzero(~np.isfinite(scores))):
            found = f"found {len(unusable)} that are not, the first at pair {unusable[0]}"
            raise InputError(f"expected finite scores, {found}; look at the embeddings of that pair")
        if same.all() or not same.any():
            kind = "same" if len(same) and same.all() else "different"
            found = f"found {len(same)} of {kind} people and no others: no rate is defined"
            raise InputError(f"expected pairs of both kinds, {found}")
        return cls(np.sort(scores[same]), np.sort(scores[~same]))

    def true_accepts(self, threshold: npt.ArrayLike, inclusive: bool = False) -> Counts:
        """How many positives are > threshold (≥ where `inclusive`), for one or many thresholds."""
        return _above(self.positives, threshold, inclusive)

    def false_accepts(self, threshold: npt.ArrayLike, inclusive: bool = False) -> Counts:
        """How many negatives are > threshold (≥ where `inclusive`), for one or many thresholds."""
        return _above(self.negatives, threshold, inclusive)


@dataclass(frozen=True)
class OperatingPoint:
    """What holds at one threshold."""

    far_target: float  #: The requested false accept rate
    threshold: float  #: NaN where the target is below 1 / negatives
    tar: float  #: The share of positives above the threshold; NaN where not measurable
    true_accepts: int
    positives: int
    false_accepts: int
    negatives: int

    @property
    def measurable(self) -> bool:
        return not math.isnan(self.tar)

    @property
    def why_not(self) -> str:
        """The sentence for a target that these pairs cannot measure; empty where they can."""
        if self.measurable:
            return ""
        few = f"{self.negatives:,} negatives cannot show a rate below 1/{self.negatives:,}"
        return f"TAR@FAR {self.far_target:g} is not measurable: {few}"


def tar_at_far(scores: SortedScores, far: float) -> OperatingPoint:
    """The true accept rate at the smallest observed negative score t with #{negatives > t} ≤ far · #negatives.

    A target of 1 means t = −∞; one below 1 / #negatives gives NaN. InputError outside (0, 1].
    """
    if not 0 < far <= 1:
        raise InputError(f"expected a false accept rate above 0 and at most 1, found {far}")
    positives, negatives = scores.positives, scores.negatives
    allowed = allowed_count(far, len(negatives))
    if allowed == 0:
        return OperatingPoint(far, math.nan, math.nan, 0, len(positives), 0, len(negatives))
    # the allowed-plus-first largest negative: whatever lies above it is at most `allowed`, ties included
    threshold = -math.inf if allowed >= len(negatives) else float(negatives[len(negatives) - 1 - allowed])
    accepted, wrongly = (int(_above(kind, threshold, False)) for kind in (positives, negatives))
    tar = accepted / len(positives)
    return OperatingPoint(far, threshold, tar, accepted, len(positives), wrongly, len(negatives))


def tar_at_far_insightface(scores: SortedScores, fars: Sequence[float]) -> list[float]:
    """TAR as insightface's IJB script reads it off scikit-learn's roc_curve: at the NEAREST false positive rate.

    That rate may exceed the target. roc_curve drops points inside straight lines; the script reverses the curve and
    takes the first of equally near points, which is the loosest.
    """
    merged = np.sort(np.concatenate([scores.positives, scores.negatives]))
    last = np.flatnonzero(np.concatenate([merged[1:] != merged[:-1], [True]]))  # of each run of equal scores
    first = np.concatenate([[0], last[:-1] + 1])
    accepted = len(merged) - first[::-1]  # at each distinct score, from the strictest
    true = np.zeros(len(last), np.int64)
    np.add.at(true, len(last) - 1 - np.searchsorted(merged[last], scores.positives), 1)
    true = np.cumsum(true)
    false = accepted - true
    if len(false) > 2:
        kept = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
        false, true = false[kept], true[kept]
    fpr = np.concatenate([[0], false])[::-1] / len(scores.negatives)
    tpr = np.concatenate([[0], true])[::-1] / len(scores.positives)
    return [float(tpr[np.argmin(np.abs(fpr - far))]) for far in fars]


def allowed_count(rate: float, of: int) -> int:
    """The largest integer ≤ rate · of, where 0.01 · 300 is 3 although 0.01 has no exact binary representation."""
    nearest = round(rate * of)
    return nearest if math.isclose(nearest, rate * of, rel_tol=1e-12) else math.floor(rate * of)


def auc(scores: SortedScores) -> float:
    """The area under the ROC: how often a positive beats a negative, ties counting half (Mann and Whitney)."""
    below = np.searchsorted(scores.negatives, scores.positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(scores.negatives, scores.positives, side="right").sum(dtype=np.int64)
    return (int(below) + int(not_above)) / (2 * len(scores.positives) * len(scores.negatives))


def eer(scores: SortedScores) -> float:
    """The equal error rate: where the straight lines between the ROC's points cross FAR = 1 − TAR.

    The curve bends only beside positive scores, so only those points are evaluated.
    """
    steps = np.unique(scores.positives)[::-1]
    far = np.stack([scores.false_accepts(steps), scores.false_accepts(steps, inclusive=True)], axis=1)
    tar = np.stack([scores.true_accepts(steps), scores.true_accepts(steps, inclusive=True)], axis=1)
    fars = np.concatenate([[0.0], far.ravel() / len(scores.negatives), [1.0]])
    tars = np.concatenate([[0.0], tar.ravel() / len(scores.positives), [1.0]])
    excess = fars - (1 - tars)  # rises from −1 to 1 along the curve
    after = int(np.searchsorted(excess, 0.0, side="left"))
    if excess[after] == 0.0 or after == 0:
        return float(fars[after])
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(fars[after - 1] + share * (fars[after] - fars[after - 1]))


def decidability(scores: SortedScores) -> float:
    """d′: how many pooled standard deviations the means of both kinds lie apart (Daugman, 2003); NaN for none."""
    spread = math.sqrt((float(np.var(scores.positives)) + float(np.var(scores.negatives))) / 2)
    apart = abs(float(np.mean(scores.positives)) - float(np.mean(scores.negatives)))
    return apart / spread if spread else math.nan


@dataclass(frozen=True)
class FoldAccuracy:
    """K-fold accuracy: thresholds chosen on the other folds, accuracies measured on each, both (folds,)."""

    thresholds: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64]
    right: Bools  #: Which pairs the fold's own threshold has right: (pairs,)

    @property
    def mean(self) -> float:
        return float(self.accuracies.mean())

    @property
    def std(self) -> float:
        """The population standard deviation over folds."""
        return float(self.accuracies.std())


def kfold_accuracy(scores: Floats, same: Bools, folds: int = 10, fold: Counts | None = None) -> FoldAccuracy:
    """Accuracy over `folds` runs of pairs in file order; scores (pairs,) are cosines in [−1, 1], same is (pairs,).

    `fold` (pairs,) assigns each pair to a fold in another way, e.g. that of `stratified_folds`.
    A fold's threshold is the exact optimum on the other folds: of the intervals of best thresholds, touching ones
    merged and bound by [−1, 1], the widest, then the lowest; its midpoint in float64.
    """
    fold, sizes = file_folds(len(scores), folds) if fold is None else (fold, np.bincount(fold, minlength=folds))
    distinct, place = np.unique(np.clip(scores.astype(np.float64), -1.0, 1.0), return_inverse=True)
    edges = np.concatenate([[-1.0], distinct, [1.0]])
    # gain[f, k]: pairs of fold f that are right when its k lowest distinct scores are rejected, less a constant
    steps = np.zeros((folds, len(edges) - 1), np.int64)
    np.add.at(steps, (fold, place + 1), np.where(same, -1, 1))
    gain = np.cumsum(steps, axis=1)
    others = gain.sum(axis=0) - gain
    if distinct[0] == -1.0:
        others[:, 0] = -len(scores) - 1  # no threshold of [−1, 1] accepts a score of −1
    thresholds = np.array([_widest_optimum(edges, row) for row in others])
    right = (np.clip(scores, -1.0, 1.0) > thresholds[fold]) == same
    return FoldAccuracy(thresholds, np.bincount(fold, weights=right, minlength=folds) / sizes, right)


def _widest_optimum(edges: npt.NDArray[np.float64], gain: Counts) -> float:
    """The midpoint of the widest run of thresholds with the highest gain; interval k is [edges[k], edges[k + 1])."""
    best = np.concatenate([[False], gain == gain.max(), [False]])
    bounds = np.flatnonzero(best[1:] != best[:-1])
    low, high = edges[bounds[0::2]], edges[bounds[1::2]]
    widest = int(np.argmax(high - low))
    middle = 0.5 * (low[widest] + high[widest])
    return float(low[widest] if middle >= high[widest] else middle)  # adjacent floats have no midpoint


def kfold_accuracy_insightface(distances: Floats, same: Bools, folds: int = 10) -> FoldAccuracy:
    """The accuracy as insightface's verification computes it, digit for digit.

    `distances` (pairs,) are squared L2 distances between unit embeddings; thresholds come from arange(0, 4, 0.01),
    the first of the best on the other folds, and a pair is accepted when its distance is strictly smaller.
    """
    grid = np.arange(0, 4, 0.01)
    fold, sizes = file_folds(len(distances), folds)
    correct = np.empty((folds, len(grid)), np.int64)
    for index in range(folds):
        here = fold == index
        accepted = [np.sort(distances[here & kind]).searchsorted(grid, side="left") for kind in (same, ~same)]
        correct[index] = accepted[0] + (np.count_nonzero(here & ~same) - accepted[1])
    # insightface compares accuracies, the same order: one count over one number of pairs
    chosen = np.argmax(correct.sum(axis=0) - correct, axis=1)
    right = (distances < grid[chosen][fold]) == same
    return FoldAccuracy(grid[chosen], correct[np.arange(folds), chosen] / sizes, right)


def stratified_folds(same: Bools, folds: int, seed: int = 0) -> Counts:
    """Which fold each pair belongs to when both kinds of `same` (pairs,) are dealt out evenly, at random."""
    fold = np.empty(len(same), np.int64)
    rng = np.random.default_rng(seed)
    dealt = np.concatenate([rng.permutation(np.flatnonzero(kind)) for kind in (same, ~same)])
    fold[dealt] = np.arange(len(same)) % folds
    return fold


def file_folds(pairs: int, folds: int) -> tuple[Counts, Counts]:
    """Which fold each pair belongs to, in file order, and the folds' sizes: the first pairs % folds have one more."""
    if not 2 <= folds <= pairs:
        raise InputError(f"expected at least {max(folds, 2)} pairs for {folds} folds, found {pairs}")
    sizes = np.full(folds, pairs // folds, np.int64)
    sizes[: pairs % folds] += 1
    return np.repeat(np.arange(folds, dtype=np.int64), sizes), sizes


def error_versus_reject(wrong: Bools, quality: Floats, rejected: Floats) -> npt.NDArray[np.float64]:
    """The share of `wrong` (pairs,) among the pairs that stay when shares `rejected` of lowest `quality` are rejected.

    Grother and Tabassi (IEEE TPAMI 29(4), 2007).
    """
    left: Counts = np.cumsum(np.append(0, wrong[np.argsort(quality, kind="stable")[::-1]]))
    kept = len(wrong) - np.floor(rejected * len(wrong)).astype(np.int64)
    return np.asarray(left[kept] / np.maximum(kept, 1), np.float64)


def binomial_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate, by Clopper and Pearson (Biometrika 26, 1934); (0, 1) for no trials."""
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


def unit(embeddings: npt.NDArray[np.floating], what: str = "image") -> npt.NDArray[np.float64]:
    """Each row divided by its L2 norm: (rows, dim) in float64, a row of zeros stays zero.

    InputError naming the rows that are not finite: such a model is broken, and NaN would pass every comparison.
    """
    refuse_non_finite(embeddings, what)
    wide = embeddings.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norms > 0, norms, 1.0)


def empty_rows(rows: npt.NDArray[np.floating]) -> Bools:
    """Which of the rows (rows, dim) are all zeros, as those of pictures that failed to enrol: bool (rows,)."""
    return np.asarray(np.logical_not(rows.any(axis=1)), bool)


def refuse_non_finite(
    embeddings: npt.NDArray[np.floating], what: str = "image", names: Sequence[object] | None = None
) -> None:
    """InputError for rows of `embeddings` (rows, dim) that hold NaN or infinity, by their `names` or numbers."""
    if len(broken := np.flatnonzero(~np.isfinite(embeddings).all(axis=1))):
        named = ", ".join(str(names[row] if names else row) for row in broken[:5]) + (", …" if len(broken) > 5 else "")
        found = f"found NaN or infinity for {len(broken)} of {len(embeddings)} {what}s ({what} {named})"
        raise InputError(f"expected finite embeddings, {found}; the model is broken, or its precision too low")


def _above(ascending: Floats, threshold: npt.ArrayLike, inclusive: bool) -> Counts:
    """How many are > threshold (≥ where inclusive), compared exactly."""
    wide = np.asarray(threshold, np.float64)  # rounded to nearest in float32, it could pass a score that it separates
    near = wide.astype(ascending.dtype)
    if inclusive:
        near = np.where(near < wide, np.nextafter(near, near.dtype.type(np.inf)), near)
    else:
        near = np.where(near > wide, np.nextafter(near, near.dtype.type(-np.inf)), near)
    below = np.searchsorted(ascending, near, side="left" if inclusive else "right")
    return np.asarray(len(ascending) - below, np.int64)
