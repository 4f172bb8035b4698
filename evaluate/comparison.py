"""Whether one model is better than another, or worse for one group of people: differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.metrics import Bools, Floats, SortedScores, binomial_interval, tar_at_far

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of the second model less that of the first, on the same pairs."""

    value: float
    interval: tuple[float, float]
    """95 %."""
    only_first: int
    """Pairs that only the first model has right."""
    only_second: int

    @property
    def verdict(self) -> str:
        """Whether the difference is one."""
        if self.interval[0] > 0:
            return "better"
        return "worse" if self.interval[1] < 0 else "no difference shown"


def paired_difference(first: Bools, second: Bools) -> Difference:
    """The difference of two accuracies on the same pairs, from what each model has right: bool (pairs,) each.

    The interval is that of Agresti and Min (Statistics in Medicine 24, 2005) for matched pairs: Wald's with half a
    pair added to each of the four cells, which keeps its coverage when few pairs differ.
    """
    if first.shape != second.shape or not len(first):
        raise InputError(f"expected two models on the same pairs, found {len(first)} and {len(second)} pairs")
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    total = len(first) + 2.0
    centre = (gained - lost) / total
    spread = NORMAL_95 * math.sqrt(max(0.0, (gained + lost + 1.0) / total - centre**2) / total)
    interval = (max(-1.0, centre - spread), min(1.0, centre + spread))
    return Difference((gained - lost) / len(first), interval, lost, gained)


def pack(correct: Bools) -> str:
    """What a model has right, as hex digits for a report; `unpack` is its inverse."""
    return np.packbits(correct).tobytes().hex()


def unpack(text: str, pairs: int) -> npt.NDArray[np.bool_]:
    """The bool (pairs,) that `pack` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=pairs).astype(bool)


def group_rates(groups: Mapping[str, tuple[Floats, Bools]], far: float = 0.01) -> dict[str, Any]:
    """False match and non-match rates of each group at ONE threshold, and how far the groups lie apart.

    `groups` maps a name to scores (pairs,) and same (pairs,). The threshold is that of `far` over all groups' pairs.
    A group with a rate of its own threshold would hide what people meet in use. No groups, and the reason, where the
    pairs are too few for `far`.
    """
    if len(groups) < 2:
        raise InputError(f"expected at least two groups to compare, found {len(groups)}")
    scores = np.concatenate([scores for scores, _ in groups.values()])
    same = np.concatenate([same for _, same in groups.values()])
    point = tar_at_far(SortedScores.of(scores, same), far)
    if not point.measurable:
        return {"far_target": far, "threshold": None, "groups": {}, "not_measurable": point.why_not}
    table: dict[str, dict[str, Any]] = {}
    for name, (own, truth) in groups.items():
        kernel = SortedScores.of(own, truth)
        false_accepts = int(kernel.false_accepts(point.threshold))
        false_rejects = len(kernel.positives) - int(kernel.true_accepts(point.threshold))
        table[name] = {
            "fmr": false_accepts / len(kernel.negatives),
            "fmr_interval": binomial_interval(false_accepts, len(kernel.negatives)),
            "fnmr": false_rejects / len(kernel.positives),
            "fnmr_interval": binomial_interval(false_rejects, len(kernel.positives)),
        }
    spread = {
        f"{rate}_spread": max(r[rate] for r in table.values()) - min(r[rate] for r in table.values())
        for rate in ("fmr", "fnmr")
    }
    return {"far_target": far, "threshold": point.threshold, "groups": table, **spread}


def error_versus_reject(
    positives: Floats, quality: Floats, threshold: float, rejected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The false non-match rate of those that stay when the share `rejected` of lowest `quality` is turned away.

    `positives` (pairs,) are same-person scores, `quality` (pairs,) that of each pair, e.g. the smaller norm of its
    embeddings; the result is (shares,). Grother and Tabassi (IEEE TPAMI 29(4), 2007).
    """
    wrong = (positives <= threshold)[np.argsort(quality, kind="stable")]
    left = np.concatenate([[0], np.cumsum(wrong[::-1])])
    kept = len(wrong) - np.floor(np.asarray(rejected) * len(wrong)).astype(np.int64)
    return left[kept] / np.maximum(kept, 1)
