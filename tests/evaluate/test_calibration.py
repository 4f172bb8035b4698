"""Likelihood ratios and costs, each against the obvious loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from zoo.errors import InputError
from zoo.evaluate.calibration import Costs, cllr, cross_calibrated, dcf, fit, min_cllr, min_dcf

Numbers = npt.NDArray[Any]


def drawn(pairs: int = 150, seed: int = 0, decimals: int = 2) -> tuple[Numbers, Numbers]:
    """Scores with ties, of kinds that overlap and are not equally many."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.3
    return np.round(rng.normal(np.where(same, 0.45, 0.1), 0.17), decimals), same


def cllr_by_loop(llr: Numbers, same: Numbers) -> float:
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for value, one_person in zip(llr.tolist(), same.tolist(), strict=True):
        odds = math.exp(-value if one_person else value) if math.isfinite(value) else 0.0
        kinds[one_person].append(math.log2(1 + odds))
    return (sum(kinds[True]) / len(kinds[True]) + sum(kinds[False]) / len(kinds[False])) / 2


def test_the_line_is_the_optimum_that_a_search_without_gradients_finds() -> None:
    scores, same = drawn()
    positives, negatives = int(same.sum()), int((~same).sum())

    def loss(line: Numbers) -> float:
        total = 0.0
        for score, one_person in zip(scores, same, strict=True):
            p = 1 / (1 + math.exp(-(line[0] * score + line[1])))
            target = (positives + 1) / (positives + 2) if one_person else 1 / (negatives + 2)
            entropy = -(target * math.log(p) + (1 - target) * math.log(1 - p))
            total += entropy / (positives if one_person else negatives)
        return total

    searched = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13}).x
    np.testing.assert_allclose(fit(scores, same), searched, rtol=1e-4)
    np.testing.assert_allclose(fit(scores, same, start=(50.0, -3.0)), fit(scores, same), rtol=1e-5)


def test_kinds_that_do_not_overlap_have_a_finite_line_and_swapped_ones_a_falling_one() -> None:
    scores = np.linspace(-1, 1, 40)
    slope, offset = fit(scores, scores > 0)
    assert 1 < slope < 1000 and abs(offset) < 1
    assert fit(scores, scores < 0)[0] < -1


def test_no_pair_has_a_part_in_its_own_calibration() -> None:
    scores, same = drawn()
    fold = np.arange(150) % 5
    llr = cross_calibrated(scores, same, fold)
    for one in range(5):
        slope, offset = fit(scores[fold != one], same[fold != one])
        np.testing.assert_allclose(llr[fold == one], slope * scores[fold == one] + offset, rtol=1e-4, atol=1e-6)
    turned = np.where(fold == 2, ~same, same)
    again = cross_calibrated(scores, turned, fold)
    np.testing.assert_array_equal(again[fold == 2], llr[fold == 2])
    assert not np.allclose(again[fold != 2], llr[fold != 2])


def test_other_folds_of_one_kind_calibrate_nothing() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    same = np.array([False, False, True, True])
    llr = cross_calibrated(scores, same, np.array([0, 0, 1, 1]))
    assert np.isnan(llr).all() and math.isnan(cllr(llr, same)) and math.isnan(dcf(llr, same, Costs(0.5)))


def test_cllr_is_that_of_a_loop_and_1_for_ratios_that_say_nothing() -> None:
    scores, same = drawn()
    assert cllr(20 * scores - 5, same) == pytest.approx(cllr_by_loop(20 * scores - 5, same), rel=1e-12)
    assert cllr(np.zeros(150), same) == pytest.approx(1.0)
    assert cllr(np.where(same, 100.0, -100.0), same) < 1e-12
    assert cllr(np.where(same, -100.0, 100.0), same) > 100


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_the_minimum_is_that_of_pooling_violators_one_by_one(decimals: int) -> None:
    scores, same = drawn(decimals=decimals)
    blocks: list[list[float]] = []  # positives, pairs, highest score
    for score in sorted(set(scores.tolist())):
        blocks.append([float(same[scores == score].sum()), float((scores == score).sum()), score])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], last[2]]
    llr = np.empty(len(scores))
    for i, score in enumerate(scores):
        positives, pairs, _ = next(block for block in blocks if score <= block[2])
        odds = positives / (pairs - positives) if pairs > positives else math.inf
        llr[i] = (math.log(odds) if odds else -math.inf) - math.log(same.sum() / (~same).sum())
    found = min_cllr(scores, same)
    assert found == pytest.approx(cllr_by_loop(llr, same), rel=1e-9)
    assert found < cllr(cross_calibrated(scores, same, np.arange(150) % 10), same)
    assert min_cllr(scores**3, same) == pytest.approx(found)  # any rising map of the scores


@pytest.mark.parametrize("costs", [Costs(0.5), Costs(0.01), Costs(0.9), Costs(0.05, 10, 1), Costs(0.5, 1, 99)])
def test_costs_are_those_of_a_loop_over_thresholds(costs: Costs) -> None:
    scores, same = drawn()

    def cost(accepted: list[bool]) -> float:
        missed = sum(not yes for yes, one in zip(accepted, same, strict=True) if one) / same.sum()
        matched = sum(yes for yes, one in zip(accepted, same, strict=True) if not one) / (~same).sum()
        paid = costs.prior * costs.false_non_match * missed + (1 - costs.prior) * costs.false_match * matched
        return float(paid / min(costs.prior * costs.false_non_match, (1 - costs.prior) * costs.false_match))

    thresholds = [-2.0, *scores.tolist()]
    least = min(cost([score > threshold for score in scores]) for threshold in thresholds)
    assert min_dcf(scores, same, costs) == pytest.approx(least, rel=1e-12)
    llr = cross_calibrated(scores, same, np.arange(150) % 10)
    stake = costs.prior * costs.false_non_match / ((1 - costs.prior) * costs.false_match)
    actual = cost([math.exp(value) * stake > 1 for value in llr])
    assert dcf(llr, same, costs) == pytest.approx(actual, rel=1e-12)
    assert least <= actual and least <= 1
    assert dcf(np.full(150, -np.inf), same, Costs(0.01)) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [(0.0,), (1.0,), (float("nan"),), (0.5, 0.0), (0.5, 1.0, -1.0), (0.5, math.inf)])
def test_costs_that_mean_nothing_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected a prior between 0 and 1 and costs above 0"):
        Costs(*values)


def test_costs_are_told_where_they_are_not_equal() -> None:
    assert Costs(0.01).told == "prior 0.01" and Costs(0.01, 10).told == "prior 0.01, costs 10:1"
    assert Costs(0.01, 10, 2).effective == pytest.approx(0.05 / (0.05 + 0.99))
    assert Costs(0.5, 3, 3).effective == 0.5 and Costs.parse("0.01:10:1") == Costs(0.01, 10)
