"""What every protocol shares: the curves of a report, and the description of each."""

from __future__ import annotations

import numpy as np

from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols.base import curves

__all__ = []


def test_the_sweep_counts_every_pair() -> None:
    rng = np.random.default_rng(0)
    scores, same = np.round(rng.uniform(-1, 1, 501), 3), rng.random(501) < 0.5

    sweep = curves(SortedScores.of(scores, same)).sweep
    for place in (0, 700, 1000, 1301, 2000):
        threshold = place / 1000 - 1
        assert sweep.true_accepts[place] == (scores[same] > threshold + 1e-9).sum()
        assert sweep.false_accepts[place] == (scores[~same] > threshold + 1e-9).sum()
