"""Rates of groups of people at one threshold."""

from __future__ import annotations

import numpy as np

from zoo.evaluate.groups import group_rates, groups_by_column


def test_groups_are_compared_at_one_threshold() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(2000) % 2 == 0
    easy, hard = rng.normal(np.where(same, 0.7, 0.0), 0.1), rng.normal(np.where(same, 0.6, 0.2), 0.1)
    found = group_rates({"easy": (easy, same), "hard": (hard, same)}, far=0.1)
    for name, scores in (("easy", easy), ("hard", hard)):
        assert found.groups[name].fmr == (scores[~same] > found.threshold).mean()
        assert found.groups[name].fnmr == (scores[same] <= found.threshold).mean()
    assert found.fmr_spread > 0.1


def test_the_differential_is_a_difference_and_a_ratio_and_a_group_of_one_kind_is_not_measurable() -> None:
    scores = np.array([0.9, 0.8, 0.1, 0.5, 0.9, 0.2, 0.1, 0.1, 0.9])
    same = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1], bool)
    names = np.array(["a", "a", "a", "a", "b", "b", "b", "b", "only"])
    found = groups_by_column({"region": names, "name": np.arange(9).astype(str), "one": np.full(9, "x")}, scores, same)
    assert list(found) == ["region", "name"]
    region = group_rates({name: (scores[names == name], same[names == name]) for name in ("a", "b", "only")}, far=0.2)
    assert region.groups["a"].fmr == 0.5 and region.groups["b"].fmr == 0 and np.isnan(region.groups["only"].fmr)
    assert region.fmr_spread == 0.5 and np.isnan(region.fmr_ratio or 0)
    two = group_rates({"a": (scores[:4], same[:4]), "b": (scores[4:8], same[4:8])}, far=0.99)
    assert two.fmr_ratio is not None and two.fmr_ratio >= 1
