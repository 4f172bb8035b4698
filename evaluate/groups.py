"""Error rates of groups of people at one threshold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.intervals import Interval
from zoo.evaluate.metrics import Bools, Floats, SortedScores, binomial_interval, tar_at_far

MOST_GROUPS = 30  #: A column of more different values holds names or numbers, not groups


@dataclass(frozen=True)
class GroupRates:
    """The error rates of one group at the threshold of all groups; NaN where it has no pair of that kind."""

    fmr: float  #: The false match rate: different people who are accepted
    fmr_interval: Interval
    fnmr: float  #: The false non-match rate: pictures of one person that are rejected
    fnmr_interval: Interval


@dataclass(frozen=True)
class Groups:
    """All groups at one threshold; no groups, and the reason, where the pairs are too few for the rate.

    The spread between groups is what ISO/IEC 19795-10 calls the false match and the false non-match rate differential.
    """

    far_target: float
    threshold: float | None
    groups: Mapping[str, GroupRates] = field(default_factory=dict)
    fmr_spread: float | None = None  #: The highest false match rate of a group less the lowest
    fnmr_spread: float | None = None
    not_measurable: str | None = None
    fmr_ratio: float | None = None  #: The highest false match rate divided by the lowest; NaN where that is 0
    fnmr_ratio: float | None = None


def group_rates(groups: Mapping[str, tuple[Floats, Bools]], far: float | None = None) -> Groups:
    """False match and non-match rates of each group at ONE threshold, and how far the groups lie apart.

    `groups` maps a name to scores (pairs,) and same (pairs,). The threshold is that of `far` over all groups' pairs, as
    in use: a threshold for each group would hide the differences. Without `far` it is 0.01, or 0.1 where the pairs are
    too few for that. Intervals are exact binomial.
    """
    if len(groups) < 2:
        raise InputError(f"expected at least two groups to compare, found {len(groups)}")
    both = SortedScores.of(*(np.concatenate(part) for part in zip(*groups.values(), strict=True)))
    if far is None:
        far = 0.01 if tar_at_far(both, 0.01).measurable else 0.1
    point = tar_at_far(both, far)
    if not point.measurable:
        return Groups(far, None, not_measurable=point.why_not)
    table = {}
    for name, (own, truth) in groups.items():
        accepted = own > point.threshold
        table[name] = GroupRates(*_rate(accepted[~truth]), *_rate(~accepted[truth]))
    fmr_spread, fmr_ratio = _differential([rates.fmr for rates in table.values()])
    fnmr_spread, fnmr_ratio = _differential([rates.fnmr for rates in table.values()])
    return Groups(far, point.threshold, table, fmr_spread, fnmr_spread, None, fmr_ratio, fnmr_ratio)


def groups_by_column(columns: Mapping[str, npt.NDArray[np.str_]], scores: Floats, same: Bools) -> dict[str, Groups]:
    """`group_rates` by each column (pairs,) that tells groups of pairs apart: it has 2 to 30 different values."""
    found = {}
    for name, values in columns.items():
        distinct = [str(value) for value in np.unique(values)]
        if 2 <= len(distinct) <= MOST_GROUPS:
            found[name] = group_rates({value: (scores[values == value], same[values == value]) for value in distinct})
    return found


def _rate(wrong: Bools) -> tuple[float, Interval]:
    errors, of = int(np.count_nonzero(wrong)), len(wrong)
    return errors / of if of else float("nan"), binomial_interval(errors, of)


def _differential(rates: list[float]) -> tuple[float, float]:
    """The highest rate less the lowest, and divided by it."""
    known = [rate for rate in rates if rate == rate]  # NaN is not equal to itself
    low, high = min(known, default=float("nan")), max(known, default=float("nan"))
    return high - low, high / low if low else float("nan")
