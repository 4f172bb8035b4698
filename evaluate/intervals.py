"""Confidence intervals: bootstrap over people rather than pairs, and the difference of two models.

Pairs that share a person are correlated, so intervals that treat pairs as independent are too narrow. Here people are
drawn with replacement, together with their pairs. `difference` compares two models on the same pairs.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from zoo.errors import InputError
from zoo.evaluate.metrics import Bools, Floats, binomial_interval

Indices = npt.NDArray[np.integer]
Interval = tuple[float, float]
ACCURACY, AUC, EER = "accuracy", "AUC", "equal error rate"  #: Their labels in a report
NORMAL_95 = 1.959963984540054  #: The 97.5 % quantile of the normal distribution
SEED = 0
MOST_REPLICATES, FEWEST_REPLICATES = 1000, 200
WORK = 3_000_000_000  #: The most pairs times replicates: some seconds on two cores
DRAWS = 40_000_000  #: The most people times replicates: half a gigabyte while they are drawn
EXACT_CUTS = 1000  #: Replicates are exact up to this many scores; beyond, thresholds are taken at this many ranks
MOST_UNDEFINED = 0.05  #: The share of replicates without a pair of one kind beyond which an interval is not measurable
ALIKE = 1e-9  #: Rates that differ by less are one rate, added up in another order
BLOCK = 1 << 23  #: Weights in memory at once: 64 MiB of float64


@dataclass(frozen=True)
class Resampling:
    """How often each person was drawn: the same draws for every figure of a benchmark."""

    weights: npt.NDArray[np.float32]  #: (people, replicates)

    @classmethod
    def of(cls, people: int, pairs: int, seed: int = SEED) -> Self:
        """As many replicates as `pairs` and `people` allow, from 200 to 1,000. InputError without people."""
        if people < 1:
            raise InputError("expected people to draw from, found none")
        allowed = min(WORK // max(pairs, 1), DRAWS // people)
        replicates = int(np.clip(allowed, FEWEST_REPLICATES, MOST_REPLICATES))
        drawn = np.random.default_rng(seed).integers(0, people, (replicates, people), dtype=np.int32)
        drawn += np.arange(replicates, dtype=np.int32)[:, None] * people
        counts = np.bincount(drawn.ravel(), minlength=replicates * people).reshape(replicates, people)
        return cls(np.ascontiguousarray(counts.T, dtype=np.float32))

    @property
    def people(self) -> int:
        return int(self.weights.shape[0])

    @property
    def replicates(self) -> int:
        return int(self.weights.shape[1])

    def sums(self, row: Indices, rows: int, left: Indices, right: Indices) -> npt.NDArray[np.float64]:
        """Every replicate's number of pairs in each of `rows`: (rows, replicates).

        A pair (row, left, right), (pairs,) each, counts as often as its person was drawn, of two people by the product.
        """
        own = left == right
        alone = csr_array((np.ones(int(own.sum()), np.float32), (row[own], left[own])), shape=(rows, self.people))
        total = (alone @ self.weights).astype(np.float64)
        if own.all():
            return total
        # Σ w[left]·w[right] of the others: for each row and left person, one sparse product over all right ones
        apart = np.flatnonzero(~own)
        order = apart[_stable_order(left[apart], self.people)]
        order = order[_stable_order(row[order], rows)]
        row, left, right = row[order], left[order], right[order]
        starts = np.flatnonzero(np.concatenate([[True], (np.diff(row) != 0) | (np.diff(left) != 0)]))
        bounds = np.append(starts, len(row))
        step = max(1, BLOCK // self.replicates)
        for first in range(0, len(starts), step):
            some = bounds[first : first + step + 1]
            rights = right[some[0] : some[-1]]
            entries = np.ones(len(rights), np.float32), rights, some - some[0]
            product = csr_array(entries, shape=(len(some) - 1, self.people)) @ self.weights
            product *= self.weights[left[some[:-1]]]
            own_row = row[some[:-1]]
            turns = np.flatnonzero(np.concatenate([[True], np.diff(own_row) != 0]))
            total[own_row[turns]] += np.add.reduceat(product, turns, axis=0, dtype=np.float64)
        return total


def _stable_order(keys: Indices, below: int) -> npt.NDArray[np.int64]:
    return np.argsort(keys.astype(np.uint16) if below <= 1 << 16 else keys, kind="stable")  # 16 bits: sorted by radix


@dataclass(frozen=True)
class Replicates:
    """The accepted pairs of every replicate at every threshold, from which all rates follow.

    Threshold k accepts what is above `cuts[k]`; arrays are (cuts + 1, replicates), the first row accepting all.
    """

    true_accepts: npt.NDArray[np.float64]
    false_accepts: npt.NDArray[np.float64]

    @classmethod
    def of(cls, scores: Floats, same: Bools, left: Indices, right: Indices, draws: Resampling) -> Self:
        """From scores and truths (pairs,) and the people of each pair (pairs,), numbered from 0."""
        cuts = _cuts(scores, same)
        row = np.searchsorted(cuts, scores, side="left")  # the number of cuts that accept the pair
        counts = (draws.sums(row[kind], len(cuts) + 1, left[kind], right[kind]) for kind in (same, ~same))
        return cls(*(np.cumsum(count[::-1], axis=0)[::-1] for count in counts))

    def auc(self) -> npt.NDArray[np.float64]:
        """The area under each replicate's ROC curve: (replicates,)."""
        far, tar = self._rates()
        return np.asarray(np.sum((far[:-1] - far[1:]) * (tar[:-1] + tar[1:]) / 2, axis=0), np.float64)

    def eer(self) -> npt.NDArray[np.float64]:
        """Where each replicate's false accept and false reject rates meet: (replicates,)."""
        far, tar = self._rates()
        excess = far - (1 - tar)  # falls from 1 to −1 along the thresholds
        after = np.argmax(excess <= 0, axis=0)
        columns = np.arange(excess.shape[1])
        low, high = excess[after, columns], excess[after - 1, columns]
        share = np.where(high > low, high / np.where(high > low, high - low, 1.0), 0.0)
        found = far[after - 1, columns] + share * (far[after, columns] - far[after - 1, columns])
        return np.where(np.isnan(excess[0]), np.nan, found)

    def tar(self, far: float) -> npt.NDArray[np.float64]:
        """Each replicate's true accept rate at the lowest threshold of a false accept rate ≤ `far`: (replicates,)."""
        at = np.argmax(self.false_accepts <= far * self.false_accepts[0] * (1 + 1e-9), axis=0)
        kinds = np.where(self.false_accepts[0] > 0, self.true_accepts[0], 0)  # of both kinds, or no rate is defined
        return shares(self.true_accepts[at, np.arange(len(at))], kinds)

    def _rates(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return shares(self.false_accepts, self.false_accepts[0]), shares(self.true_accepts, self.true_accepts[0])


def shares(counts: npt.NDArray[np.float64], of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """counts / of, NaN where a replicate holds none."""
    return np.asarray(counts / np.where(of > 0, of, np.nan), np.float64)


def _cuts(scores: Floats, same: Bools) -> Floats:
    """The thresholds: every distinct score where they are few, else evenly spaced ranks, finest at the tails."""
    if len(scores) <= EXACT_CUTS:
        return np.unique(scores)
    negatives, positives = np.sort(scores[~same])[::-1], np.sort(scores[same])
    ranks = [
        np.unique(np.geomspace(1, len(kind), share).astype(np.int64)) - 1
        for kind, share in ((negatives, 2 * EXACT_CUTS // 3), (positives, EXACT_CUTS // 3))
    ]
    return np.unique(np.concatenate([negatives[ranks[0]], positives[ranks[1]], [scores.max()]]))


@dataclass(frozen=True)
class Estimate:
    """A figure, and what it was in every replicate."""

    value: float
    replicates: npt.NDArray[np.float64]
    people: int  #: How many people it was counted on

    @property
    def interval(self) -> Interval:
        """The middle 95 % of the replicates, widened to hold the value; (NaN, NaN) where it is not measurable.

        Where all replicates agree, as at a rate of 1, they carry no information on unseen errors: then it is the exact
        binomial interval of the same rate among the people. It is not measurable where more than one draw in twenty
        holds no pair of one of the kinds, so that it has no such rate.
        """
        defined = self.replicates[~np.isnan(self.replicates)]
        if len(defined) < (1 - MOST_UNDEFINED) * len(self.replicates):
            return math.nan, math.nan
        low, high = (float(bound) for bound in np.percentile(defined, (2.5, 97.5)))
        if high - low < ALIKE:
            low, high = binomial_interval(round(self.value * self.people), self.people)
        return max(0.0, min(low, self.value)), min(1.0, max(high, self.value))

    def same_draws(self, other: Self) -> bool:
        """Whether another estimate has as many draws of as many people, so that it comes from the same draws."""
        return (len(self.replicates), self.people) == (len(other.replicates), other.people)

    def packed(self) -> dict[str, Any]:
        """The estimate in JSON, for `unpacked`."""
        content = self.replicates.astype("<f4").tobytes()
        return {"value": self.value, "people": self.people, "replicates": base64.b64encode(content).decode()}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> Self:
        """The estimate that `packed` wrote, with replicates rounded to float32."""
        replicates = np.frombuffer(base64.b64decode(packed["replicates"]), "<f4").astype(np.float64)
        return cls(float(packed["value"]), replicates, int(packed["people"]))


@dataclass(frozen=True)
class Difference:
    """A figure of the second model less that of the first, on the same pairs or probes."""

    value: float
    interval: Interval  #: 95 %
    method: str  #: How the interval was found, in words
    gained: int | None = None  #: Pairs that only the second model has right, where pairs were compared one by one
    lost: int | None = None  #: Pairs that only the first one has right

    def verdict(self, lower_is_better: bool = False) -> str:
        """Better, worse, or that no difference is shown."""
        low, high = self.interval
        if not low > 0 and not high < 0:
            return "no difference shown"
        return "better" if (high < 0) == lower_is_better else "worse"


def difference(first: Estimate | Bools, second: Estimate | Bools) -> Difference | None:
    """The difference of one figure of two models, with a 95 % interval; None where the two cannot be compared.

    Estimates from the same draws, of people wherever they are known, are subtracted draw by draw, so that what is hard
    for both models cancels out. The interval is the middle 95 % of the differences, widened to hold the value.

    The fallback, for the accuracy on a benchmark whose people are unknown: which pairs each model has right, bool
    (pairs,). Its interval is that of Agresti and Min (Statistics in Medicine 24, 2005) for matched pairs, Wald's with
    half a pair added to each of the four cells, which keeps its coverage when few pairs differ; a bootstrap would not.
    """
    if isinstance(first, Estimate) and isinstance(second, Estimate):
        if not first.same_draws(second):
            return None
        value = second.value - first.value
        one, other = (side.replicates.astype(np.float32).astype(np.float64) for side in (first, second))
        apart = (other - one)[~np.isnan(other - one)]
        if len(apart) < (1 - MOST_UNDEFINED) * len(one):
            return None
        low, high = (float(bound) for bound in np.percentile(apart, (2.5, 97.5)))  # as of stored reports: float32
        if np.ptp(apart) > ALIKE:
            return Difference(value, (min(low, value), max(high, value)), "the same draws")
        # no draw tells them apart: what unseen people might change, by matched pairs of which none differ
        spread = _matched(0, 0, first.people)[1]
        low, high = max(-1.0, value - spread), min(1.0, value + spread)
        return Difference(value, (low, high), "no draw differs: matched people, Agresti and Min")
    if isinstance(first, Estimate) or isinstance(second, Estimate) or first.shape != second.shape:
        return None
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    centre, spread = _matched(gained, lost, len(first))
    interval = (max(-1.0, centre - spread), min(1.0, centre + spread))
    return Difference((gained - lost) / len(first), interval, "matched pairs, Agresti and Min", gained, lost)


def _matched(gained: int, lost: int, pairs: int) -> tuple[float, float]:
    """The middle and half the width of Agresti and Min's interval for a difference of matched pairs."""
    total = pairs + 2.0
    centre = (gained - lost) / total
    return centre, NORMAL_95 * math.sqrt(max(0.0, (gained + lost + 1.0) / total - centre**2) / total)


def pack(right: Bools) -> str:
    """Which pairs a model has right, as hex digits for a report; `unpack` is its inverse."""
    return np.packbits(right).tobytes().hex()


def unpack(text: str, pairs: int) -> Bools:
    """The bool (pairs,) that `pack` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=pairs).astype(bool)


@dataclass(frozen=True)
class PeoplePairs:
    """The people of each pair, and the draws of these people."""

    left: Indices
    right: Indices  #: The person on either side, from 0: (pairs,) each. A pair of unknown people counts as one person
    draws: Resampling
    known: bool  #: Whether people are known and were drawn; otherwise pairs were

    @classmethod
    def of(cls, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Self:
        """People by any labels: (pairs,) each."""
        if left.dtype.kind not in "iu":
            _, numbers = np.unique(np.concatenate([left, right]), return_inverse=True)
            left, right = numbers[: len(left)], numbers[len(left) :]
        there = np.zeros(int(max(left.max(), right.max())) + 1, bool)  # counting is faster than sorting millions
        there[left] = there[right] = True
        number = np.cumsum(there) - 1
        return cls(number[left], number[right], Resampling.of(int(there.sum()), len(left)), True)

    @classmethod
    def unknown(cls, pairs: int) -> Self:
        """Each pair by itself, for benchmarks that do not identify their people."""
        alone = np.arange(pairs)
        return cls(alone, alone, Resampling.of(pairs, pairs), False)

    @property
    def method(self) -> str:
        """How the intervals were found, for a report."""
        draws = f"{self.draws.replicates:,} replicates, seed {SEED}"
        if self.known:
            return f"bootstrap of {self.draws.people:,} people, {draws}"
        drawn = f"bootstrap of pairs for AUC and EER, {draws}; the benchmark names no people"
        return f"exact binomial for accuracy and TAR, pairs taken as independent; {drawn}"

    def share(self, right: Bools, value: float) -> Estimate:
        """The share of pairs that are `right`, bool (pairs,), whose value on all pairs is `value`."""
        found = self.draws.sums(right.astype(np.int64), 2, self.left, self.right)
        return Estimate(value, shares(found[1], found.sum(axis=0)), self.draws.people)

    def rates(
        self, scores: Floats, same: Bools, auc: float, eer: float, tars: Mapping[float, float]
    ) -> dict[str, Estimate]:
        """AUC, EER and the TARs by false accept rate, by their label, from scores and truths (pairs,)."""
        found = Replicates.of(scores, same, self.left, self.right, self.draws)
        values = {AUC: (auc, found.auc()), EER: (eer, found.eer())}
        values |= {f"TAR@FAR {far:g}": (tar, found.tar(far)) for far, tar in tars.items()}
        return {label: Estimate(*value, self.draws.people) for label, value in values.items()}
