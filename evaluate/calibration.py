"""From scores to likelihood ratios, and what decisions by them cost.

A calibrated score is ln LR, the natural logarithm of how much likelier it is for one person than for two. Functions
take scores (pairs,) and truths `same` (pairs,).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from zoo.errors import InputError
from zoo.evaluate.metrics import Bools, Counts, Floats, SortedScores
from zoo.evaluate.results import Evaluation

Line = tuple[float, float]  #: Slope and offset: ln LR = slope · score + offset


@dataclass(frozen=True)
class Costs:
    """What a decision is for: the prior probability of one person, and the costs of both errors."""

    prior: float
    false_non_match: float = 1.0
    false_match: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.prior < 1 and 0 < self.false_non_match < np.inf and 0 < self.false_match < np.inf):
            raise InputError(f"expected a prior between 0 and 1 and costs above 0, found {self.told}")

    @classmethod
    def parse(cls, text: str) -> "Costs":
        """The costs of P or P:FNM:FM; InputError for other text."""
        try:
            parts = [float(part) for part in str(text).split(":")]
        except ValueError:
            parts = []
        if len(parts) not in (1, 3):
            raise InputError(f"expected a prior and costs as 0.01 or 0.01:10:1, found {text}")
        return cls(*parts)

    @property
    def told(self) -> str:
        """In words, for a report."""
        costs = f", costs {self.false_non_match:g}:{self.false_match:g}"
        return f"prior {self.prior:g}{costs if self.false_non_match != 1 or self.false_match != 1 else ''}"

    @property
    def effective(self) -> float:
        """The prior that asks for the same decisions at equal costs."""
        miss, alarm = self.prior * self.false_non_match, (1 - self.prior) * self.false_match
        return miss / (miss + alarm)

    def of(self, fnmr: Floats, fmr: Floats) -> Floats:
        """NIST's normalised detection cost of error rates: 1 for the better of accepting all and rejecting all."""
        at = self.effective
        return np.asarray((at * fnmr + (1 - at) * fmr) / min(at, 1 - at))


def fit(scores: Floats, same: Bools, start: Line = (0.0, 0.0)) -> Line:
    """The line of logistic regression with both kinds weighted equally; `start` is where the search begins.

    The targets are Platt's (n + 1) / (n + 2) instead of 1: the slope stays finite where the kinds do not overlap.
    """
    weight = np.where(same, 1 / max(1, same.sum()), 1 / max(1, (~same).sum())) / 2
    target = np.where(same, 1 - 1 / (same.sum() + 2), 1 / ((~same).sum() + 2))
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    x = (scores - middle) / spread

    def loss(line: Floats) -> tuple[float, Floats]:
        llr = line[0] * x + line[1]
        off = weight * (expit(llr) - target)
        return float(weight @ (np.logaddexp(0, llr) - target * llr)), np.array([off @ x, off.sum()])

    begin = np.array([start[0] * spread, start[1] + start[0] * middle])
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}).x
    slope = float(found[0]) / spread
    return slope, float(found[1]) - slope * middle


def cross_calibrated(scores: Floats, same: Bools, fold: Counts, start: Line = (0.0, 0.0)) -> Floats:
    """ln LR (pairs,), each fold (pairs,) by the line of the other folds; NaN where these lack a kind of pairs."""
    llr = np.full(len(scores), np.nan)
    for one in np.unique(fold):
        others = fold != one
        if not same[others].all() and same[others].any():
            slope, offset = fit(scores[others], same[others], start)
            llr[~others] = slope * scores[~others] + offset
    return llr


def cllr(llr: Floats, same: Bools) -> float:
    """The cost of log-likelihood ratios in bits: 0 for perfect ones, 1 for those that say nothing; NaN where any is.

    Brümmer and du Preez (Computer Speech and Language 20, 2006), equation 27.
    """
    if np.isnan(llr).any():
        return float("nan")
    bits = np.logaddexp(0, np.where(same, -llr, llr)) / np.log(2)
    return float((bits[same].mean() + bits[~same].mean()) / 2)


def min_cllr(scores: Floats, same: Bools) -> float:
    """What `cllr` would be after the best monotone map of the scores: that of the pool adjacent violators algorithm."""
    distinct, place = np.unique(scores, return_inverse=True)
    of = np.bincount(place, minlength=len(distinct)).astype(np.float64)
    positives = np.bincount(place, weights=same, minlength=len(distinct))
    share = isotonic_regression(positives / of, weights=of).x
    with np.errstate(divide="ignore"):
        llr = np.log(share) - np.log1p(-share) - np.log(positives.sum() / (of - positives).sum())
    return cllr(llr[place], same)


def min_dcf(scores: Floats, same: Bools, costs: Costs) -> float:
    """The lowest cost at any threshold."""
    kinds = SortedScores.of(scores, same)
    thresholds = np.append(np.unique(scores), -np.inf)
    fnmr = 1 - kinds.true_accepts(thresholds) / len(kinds.positives)
    return float(costs.of(fnmr, kinds.false_accepts(thresholds) / len(kinds.negatives)).min())


def dcf(llr: Floats, same: Bools, costs: Costs) -> float:
    """The cost at the threshold that the costs ask for, were the likelihood ratios right; NaN where any is."""
    if np.isnan(llr).any():
        return float("nan")
    accepted = llr > np.log(1 / costs.effective - 1)
    return float(costs.of(np.mean(~accepted[same]), np.mean(accepted[~same])))


def calibrated(found: Evaluation, scores: Floats, same: Bools, fold: Counts, costs: Costs) -> tuple[Evaluation, Floats]:
    """The figures with those of calibrated scores, and ln LR (pairs,) across the folds (pairs,)."""
    slope, offset = fit(scores, same)
    llr = cross_calibrated(scores, same, fold, (slope, offset))
    figures = {"Cllr": cllr(llr, same), "minimum Cllr": min_cllr(scores, same)}
    figures |= {f"DCF, {costs.told}": dcf(llr, same, costs), f"minimum DCF, {costs.told}": min_dcf(scores, same, costs)}
    line = f"calibrated by logistic regression on the other folds; on all pairs ln LR = {slope:.4f} · cosine"
    notes = (*found.notes, f"{line} {offset:+.4f}; a Cllr or a DCF of 1 is the cost of deciding without the scores")
    return replace(found, figures={**found.figures, **figures}, notes=notes), llr
