"""What a benchmark says of a model, and how two models differ on it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from zoo.evaluate.intervals import Estimate, difference, pack
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.results import Curves, Evaluation, differences

RIGHT = np.random.default_rng(0).random((2, 51)) < 0.8
DRAWS = np.random.default_rng(1).random((2, 200))


def found(which: int, compat: str | None = None, **estimates: Estimate) -> Evaluation:
    curves = Curves(right=pack(RIGHT[which]), estimates=estimates)
    return Evaluation("pairs", "x.bin", "ab", compat, pairs=51, curves=curves)


def test_accuracies_are_compared_pair_by_pair_where_nobody_is_known() -> None:
    assert differences(found(0), found(1)) == {"accuracy": difference(RIGHT[0], RIGHT[1])}


def test_figures_are_compared_draw_by_draw_where_people_are_known() -> None:
    first, second = (Estimate(0.5 + 0.1 * i, DRAWS[i], 9) for i in (0, 1))
    both = differences(found(0, accuracy=first, AUC=first), found(1, accuracy=second, AUC=second))
    assert both == {"accuracy": difference(first, second), "AUC": difference(first, second)}


def test_what_only_one_model_has_or_other_draws_made_is_not_compared() -> None:
    draws = Estimate(0.5, DRAWS[0], 9)
    other = Estimate(0.5, DRAWS[0], 8)
    assert set(differences(found(0, AUC=draws), found(1))) == {"accuracy"}
    assert set(differences(found(0, AUC=draws), found(1, AUC=other))) == {"accuracy"}
    assert differences(found(0, accuracy=draws), found(1)) == {}


def test_accuracies_of_other_definitions_are_not_compared() -> None:
    assert differences(found(0, compat="insightface"), found(1)) == {}


@pytest.mark.parametrize("points", [3, 17, 400])
def test_the_roc_of_a_report_lies_on_the_exact_curve(points: int) -> None:
    rng = np.random.default_rng(points)
    same = rng.random(501) < 0.4
    scores = np.round(rng.normal(np.where(same, 0.4, 0.1), 0.25), 2)
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    exact = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    roc = Curves.of(SortedScores.of(scores, same), points).roc
    assert set(zip(roc.far, roc.tar, strict=True)) <= exact and roc.far[0] == 0.0 and roc.tar[-1] == 1.0
    assert len(roc.far) <= points + 1


def test_the_sweep_counts_every_pair() -> None:
    rng = np.random.default_rng(0)
    scores, same = np.round(rng.uniform(-1, 1, 501), 3), rng.random(501) < 0.5
    sweep = Curves.of(SortedScores.of(scores, same)).sweep
    for place in (0, 700, 1000, 1301, 2000):
        threshold = place / 1000 - 1
        assert sweep.true_accepts[place] == (scores[same] > threshold + 1e-9).sum()
        assert sweep.false_accepts[place] == (scores[~same] > threshold + 1e-9).sum()
