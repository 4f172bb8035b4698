"""Error rates of groups of people at one threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from zoo.errors import InputError
from zoo.evaluate.intervals import Interval
from zoo.evaluate.metrics import Bools, Floats, SortedScores, binomial_interval, tar_at_far


@dataclass(frozen=True)
class GroupRates:
    """The error rates of one group at the threshold of all groups."""

    fmr: float
    """The false match rate: different people who are accepted."""
    fmr_interval: Interval
    fnmr: float
    """The false non-match rate: pictures of one person that are rejected."""
    fnmr_interval: Interval


@dataclass(frozen=True)
class Groups:
    """All groups at one threshold; no groups, and the reason, where the pairs are too few for the rate."""

    far_target: float
    threshold: float | None
    groups: Mapping[str, GroupRates] = field(default_factory=dict)
    fmr_spread: float | None = None
    """The highest false match rate of a group less the lowest."""
    fnmr_spread: float | None = None
    not_measurable: str | None = None


def group_rates(groups: Mapping[str, tuple[Floats, Bools]], far: float = 0.01) -> Groups:
    """False match and non-match rates of each group at ONE threshold, and how far the groups lie apart.

    `groups` maps a name to scores (pairs,) and same (pairs,). The threshold is that of `far` over all groups' pairs, as
    in use: a threshold for each group would hide the differences.
    """
    if len(groups) < 2:
        raise InputError(f"expected at least two groups to compare, found {len(groups)}")
    scores = np.concatenate([scores for scores, _ in groups.values()])
    same = np.concatenate([same for _, same in groups.values()])
    point = tar_at_far(SortedScores.of(scores, same), far)
    if not point.measurable:
        return Groups(far, None, not_measurable=point.why_not)
    table = {}
    for name, (own, truth) in groups.items():
        kernel = SortedScores.of(own, truth)
        false_accepts = int(kernel.false_accepts(point.threshold))
        false_rejects = len(kernel.positives) - int(kernel.true_accepts(point.threshold))
        table[name] = GroupRates(
            fmr=false_accepts / len(kernel.negatives),
            fmr_interval=binomial_interval(false_accepts, len(kernel.negatives)),
            fnmr=false_rejects / len(kernel.positives),
            fnmr_interval=binomial_interval(false_rejects, len(kernel.positives)),
        )
    fmrs, fnmrs = [rates.fmr for rates in table.values()], [rates.fnmr for rates in table.values()]
    return Groups(far, point.threshold, table, max(fmrs) - min(fmrs), max(fnmrs) - min(fnmrs))
