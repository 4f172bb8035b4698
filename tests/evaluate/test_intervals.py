"""Intervals that draw people: against resampling written out, and against the truth of made-up populations."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import pytest

from zoo.errors import InputError
from zoo.evaluate import intervals, metrics
from zoo.evaluate.intervals import AUC, EER, Estimate, PeoplePairs, Replicates, Resampling, difference, pack, unpack
from zoo.evaluate.metrics import SortedScores


def population(
    people: int, seed: int, pairs: int = 400
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Scores whose height is partly the person's: everybody's pairs rise and fall together."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, people, pairs)
    right = np.where(np.arange(pairs) % 2 == 0, left, (left + rng.integers(1, people, pairs)) % people)
    same = left == right
    ease = rng.normal(0, 0.15, people)
    level = np.where(same, 0.55 + ease[left], 0.1 + (ease[left] + ease[right]) / 2)
    return np.clip(np.round(level + rng.normal(0, 0.1, pairs), 3), -1, 1), same, left, right


@pytest.mark.parametrize("seed", [0, 1])
def test_every_replicate_is_the_figure_of_the_people_drawn(seed: int) -> None:
    scores, same, left, right = population(17, seed)
    draws = Resampling.of(17, len(scores), seed)
    found = Replicates.of(scores, same, left, right, draws)
    auc, eer, tar = found.auc(), found.eer(), {far: found.tar(far) for far in (1.0, 0.3, 0.1, 0.011)}
    share = draws.sums(same.astype(np.int64), 2, left, right)
    for replicate in range(0, draws.replicates, 97):
        drawn = draws.weights[:, replicate].astype(int)
        assert drawn.sum() == 17
        times = np.where(same, drawn[left], drawn[left] * drawn[right])
        again, truth = np.repeat(scores, times), np.repeat(same, times)
        kernel = SortedScores.of(again, truth)
        assert auc[replicate] == pytest.approx(metrics.auc(kernel), abs=1e-9)
        assert eer[replicate] == pytest.approx(metrics.eer(kernel), abs=1e-9)
        for far, values in tar.items():
            point = metrics.tar_at_far(kernel, far)
            assert values[replicate] == pytest.approx(point.tar, abs=1e-12)
        assert share[:, replicate].tolist() == [(~truth).sum(), truth.sum()]


def test_blocks_and_wide_numbers_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    draws = Resampling.of(41, 10**9)
    assert draws.replicates == 200
    row, left, right = rng.integers(0, 9, 700), rng.integers(0, 41, 700), rng.integers(0, 41, 700)
    whole = draws.sums(row, 9, left, right)
    weights = draws.weights.astype(np.float64)
    expected = np.zeros((9, 200))
    for r, a, b in zip(row, left, right, strict=True):
        expected[r] += weights[a] if a == b else weights[a] * weights[b]
    np.testing.assert_array_equal(whole, expected)
    monkeypatch.setattr(intervals, "BLOCK", 200 * 7)
    np.testing.assert_array_equal(draws.sums(row, 9, left, right), expected)
    np.testing.assert_array_equal(draws.sums(row * 10_000, 80_001, left, right)[::10_000], expected)


def test_many_scores_are_cut_at_ranks_that_keep_the_rates() -> None:
    scores, same, left, right = population(60, 5, pairs=4001)
    scores = np.clip(scores + np.random.default_rng(0).normal(0, 1e-5, len(scores)), -1, 1)
    draws = Resampling.of(60, len(scores))
    rough = Replicates.of(scores, same, left, right, draws)
    assert len(rough.true_accepts) <= intervals.EXACT_CUTS + 2
    bootstrap_cuts, intervals.EXACT_CUTS = intervals.EXACT_CUTS, 10**6
    try:
        exact = Replicates.of(scores, same, left, right, draws)
    finally:
        intervals.EXACT_CUTS = bootstrap_cuts
    for find in (Replicates.auc, Replicates.eer, lambda r: r.tar(0.01), lambda r: r.tar(0.1)):
        width = np.ptp(np.percentile(find(exact), (2.5, 97.5)))
        np.testing.assert_allclose(
            np.percentile(find(rough), (2.5, 97.5)), np.percentile(find(exact), (2.5, 97.5)), atol=0.03 * width
        )


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    first, second, other = (Resampling.of(23, 500, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.weights, second.weights)
    assert (first.weights != other.weights).any()
    with pytest.raises(InputError, match="found none"):
        Resampling.of(0, 3)


def test_intervals_of_people_hold_the_truth_and_those_of_pairs_are_too_narrow() -> None:
    """The true AUC comes from a very large population; percentile intervals of 80 people hold it in 92 of 100 cases."""
    truth = metrics.auc(SortedScores.of(*population(20_000, 99, pairs=400_000)[:2]))
    held = {True: 0, False: 0}
    trials = 60
    for seed in range(trials):
        scores, same, left, right = population(80, 1000 + seed, pairs=800)
        for known in (True, False):
            who = PeoplePairs.of(left, right) if known else PeoplePairs.unknown(len(scores))
            found = Replicates.of(scores, same, who.left, who.right, who.draws).auc()
            low, high = Estimate(metrics.auc(SortedScores.of(scores, same)), found, who.draws.people).interval
            held[known] += low <= truth <= high
    assert held[True] >= trials * 0.92 - 3 * math.sqrt(trials * 0.92 * 0.08)
    assert held[False] < held[True] - 5


def test_a_rate_that_never_varies_has_the_binomial_interval_of_the_people() -> None:
    assert Estimate(1.0, np.ones(1000), 50).interval == metrics.binomial_interval(50, 50)
    assert Estimate(0.5, np.linspace(0, 1, 1001), 50).interval == (pytest.approx(0.025), pytest.approx(0.975))
    assert Estimate(0.5, np.linspace(0.2, 0.4, 1001), 50).interval[1] == 0.5


def test_two_models_on_the_same_draws_differ_by_less_than_either_is_known() -> None:
    scores, same, left, right = population(80, 7, pairs=2000)
    who = PeoplePairs.of(left, right)
    noise = np.random.default_rng(0).normal(0, 0.02, (2, len(scores)))
    first, second, worse = (
        Estimate(metrics.auc(SortedScores.of(s, same)), Replicates.of(s, same, left, right, who.draws).auc(), 80)
        for s in (scores + noise[0], scores + noise[1], scores - 0.1 * same)
    )
    found = difference(first, second)
    low, high = found.interval
    assert low <= 0 <= high and found.value == second.value - first.value
    assert high - low < 0.5 * (first.interval[1] - first.interval[0])
    assert difference(first, worse).verdict() == "worse"
    assert difference(first, worse).verdict(lower_is_better=True) == "better"
    again = Estimate.unpacked(json.loads(json.dumps(second.packed())))
    np.testing.assert_allclose(again.replicates, second.replicates, atol=1e-7)
    assert (again.value, again.people) == (second.value, 80)
    assert second.same_draws(again) and not second.same_draws(Estimate(0.5, np.ones(3), 80))
    assert difference(first, again) == difference(first, second), "a stored report gives the same interval"
    assert difference(first, Estimate(0.5, np.ones(3), 80)) is None


def test_labels_of_people_may_be_words() -> None:
    who = PeoplePairs.of(np.array(["ada", "bo", "ada"]), np.array(["ada", "cy", "bo"]))
    assert who.draws.people == 3 and who.left.tolist() == [0, 1, 0] and who.right.tolist() == [0, 2, 1]
    assert "bootstrap of 3 people, 1,000 replicates, seed 0" in who.method
    assert "names no people" in PeoplePairs.unknown(5).method


def test_a_paired_difference_covers_the_truth_and_finds_a_gain() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        both = rng.random(601) < 0.9
        first, second = both ^ (rng.random(601) < 0.03), both ^ (rng.random(601) < 0.03)
        low, high = difference(first, second).interval
        covered += low <= 0 <= high
    assert covered >= 400 * 0.95 - 3 * math.sqrt(400 * 0.95 * 0.05)
    better = np.ones(601, bool)
    worse = better.copy()
    worse[:25] = False
    assert difference(worse, better).verdict() == "better" and difference(better, worse).verdict() == "worse"
    assert difference(better, better).verdict() == "no difference shown"
    assert unpack(pack(worse), 601).tolist() == worse.tolist()


@pytest.mark.parametrize("known", [True, False])
def test_perfect_scores_have_an_interval_of_some_width_within_0_and_1(known: bool) -> None:
    people = np.arange(40)
    left, right = np.concatenate([people, people]), np.concatenate([people, (people + 1) % 40])
    same = left == right
    who = PeoplePairs.of(left, right) if known else PeoplePairs.unknown(80)
    found = who.rates(np.where(same, 0.9, 0.1), same, 1.0, 0.0, {0.1: 1.0})
    for value, (label, estimate) in zip((1.0, 0.0, 1.0), found.items(), strict=True):
        low, high = estimate.interval
        assert 0 <= low <= value <= high <= 1 and high - low > 0.01, label
    wobbling = Estimate(1 - 2e-16, np.linspace(1 - 3e-16, 1 + 3e-16, 200), 40)
    assert wobbling.interval[1] == 1.0 and wobbling.interval[0] < 0.95


def test_one_pair_of_one_person_measures_no_interval() -> None:
    same = np.arange(30) == 0
    found = PeoplePairs.unknown(30).rates(np.linspace(0.9, 0.0, 30), same, 1.0, 0.0, {0.1: 1.0})
    assert np.isnan(found[AUC].interval).all() and np.isnan(found[EER].interval).all()


def test_models_that_no_draw_tells_apart_still_have_an_interval() -> None:
    perfect = Estimate(1.0, np.ones(200), 60)
    one = difference(perfect, perfect)
    assert one is not None and one.value == 0 and one.interval[0] < -0.01 and one.interval[1] > 0.01
    assert one.verdict() == "no difference shown" and "no draw differs" in one.method
