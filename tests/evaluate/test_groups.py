"""Rates of groups of people at one threshold."""

from __future__ import annotations

import numpy as np

from zoo.evaluate.groups import group_rates


def test_groups_are_compared_at_one_threshold() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(2000) % 2 == 0
    easy, hard = rng.normal(np.where(same, 0.7, 0.0), 0.1), rng.normal(np.where(same, 0.6, 0.2), 0.1)
    found = group_rates({"easy": (easy, same), "hard": (hard, same)}, far=0.1)
    for name, scores in (("easy", easy), ("hard", hard)):
        assert found.groups[name].fmr == (scores[~same] > found.threshold).mean()
        assert found.groups[name].fnmr == (scores[same] <= found.threshold).mean()
    assert found.fmr_spread > 0.1
