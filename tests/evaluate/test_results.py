"""What a benchmark says of a model, and how two models differ on it."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.evaluate.intervals import Estimate, difference, pack
from zoo.evaluate.metrics import tar_at_rate
from zoo.evaluate.results import Curves, Evaluation, Point, differences

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


def test_a_points_interval_is_binomial_unless_people_were_drawn() -> None:
    point = tar_at_rate(np.linspace(0, 1, 11), np.linspace(-1, 0.5, 31), 0.1)
    assert Point.of(point, (0.1, 0.9)).tar_interval == (0.1, 0.9)
    low, high = Point.of(point).tar_interval
    assert low < point.tar < high and Point.of(point).far == pytest.approx(3 / 31)
