"""The figures against their definitions written out as loops, and against scikit-learn where it has them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.intervals import PeoplePairs
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols.base import verification


def scores_of(seed: int, pairs: int, decimals: int | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores that overlap; few decimals make ties."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.4
    same[:2] = True, False
    scores = np.clip(rng.normal(np.where(same, 0.4, 0.1), 0.25), -1, 1)
    return (scores if decimals is None else np.round(scores, decimals)), same


CASES = [(seed, pairs, decimals) for seed, pairs in enumerate((7, 61, 333)) for decimals in (None, 1, 2)]
cases = pytest.mark.parametrize("seed, pairs, decimals", CASES)


@cases
@pytest.mark.parametrize("far", [1.0, 0.5, 0.1, 0.03, 0.01, 0.001])
def test_tar_at_far_is_that_of_the_smallest_allowed_negative_score(
    seed: int, pairs: int, decimals: int | None, far: float
) -> None:
    scores, same = scores_of(seed, pairs, decimals)
    negatives = scores[~same]
    found = metrics.tar_at_far(SortedScores.of(scores, same), far)
    if far * len(negatives) < 1:
        assert math.isnan(found.tar) and not found.measurable and "not measurable" in found.why_not
        return
    allowed = [t for t in negatives if (negatives > t).sum() <= far * len(negatives)]
    threshold = -math.inf if far == 1 else min(allowed)
    assert found.threshold == threshold
    assert found.tar == (scores[same] > threshold).mean()
    assert found.false_accepts == (negatives > threshold).sum() <= far * len(negatives)


def test_a_far_that_is_no_binary_fraction_allows_the_whole_number_that_it_means() -> None:
    for negatives in range(100, 1500, 100):
        assert metrics.allowed_count(0.01, negatives) == negatives // 100
        assert metrics.allowed_count(0.01, negatives - 1) == negatives // 100 - 1


@cases
def test_auc_agrees_with_scikit_learn(seed: int, pairs: int, decimals: int | None) -> None:
    scores, same = scores_of(seed, pairs, decimals)
    kernel = SortedScores.of(scores, same)
    assert metrics.auc(kernel) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)


@cases
def test_eer_is_where_the_roc_crosses_the_diagonal(seed: int, pairs: int, decimals: int | None) -> None:
    scores, same = scores_of(seed, pairs, decimals)
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    low, high = 0.0, 1.0
    for _ in range(60):  # on the crossing line FAR + TAR = 1 the polyline is met once
        middle = (low + high) / 2
        along = np.interp(middle, (fpr + tpr) / 2, fpr), np.interp(middle, (fpr + tpr) / 2, tpr)
        low, high = (middle, high) if sum(along) < 1 else (low, middle)
    assert metrics.eer(SortedScores.of(scores, same)) == pytest.approx(along[0], abs=1e-9)


def best_threshold_by_looking(scores: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> float:
    """The rule of the definition, interval by interval."""
    edges = [-1.0, *sorted(set(scores.tolist())), 1.0]
    intervals: list[list[float]] = []  # low, high, accuracy
    for low, high in itertools.pairwise(edges):
        if high > low or high == 1.0:
            accuracy = ((scores > low) == same).sum()
            if intervals and intervals[-1][2] == accuracy:
                intervals[-1][1] = high
            else:
                intervals.append([low, high, accuracy])
    best = max(interval[2] for interval in intervals)
    low, high, _ = max((i for i in intervals if i[2] == best), key=lambda i: (i[1] - i[0], -i[0]))
    return (low + high) / 2


@cases
@pytest.mark.parametrize("folds", [2, 5, 7])
def test_kfold_accuracy_takes_the_widest_optimum_of_the_other_folds(
    seed: int, pairs: int, decimals: int | None, folds: int
) -> None:
    scores, same = scores_of(seed, pairs, decimals)
    found = metrics.kfold_accuracy(scores, same, folds)
    correct = 0
    for index, here in enumerate(np.array_split(np.arange(pairs), folds)):
        others = np.setdiff1d(np.arange(pairs), here)
        threshold = best_threshold_by_looking(scores[others], same[others])
        right = ((scores[here] > threshold) == same[here]).sum()
        assert found.thresholds[index] == pytest.approx(threshold, abs=1e-15)
        assert found.accuracies[index] == right / len(here)
        correct += right
    assert found.right.sum() == correct


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), st.booleans()), min_size=4, max_size=30))
def test_kfold_accuracy_survives_ties_extremes_and_one_kind_of_pairs(pairs: list[tuple[float, bool]]) -> None:
    scores, same = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    found = metrics.kfold_accuracy(scores, same, folds=2)
    half = (len(pairs) + 1) // 2
    expected = best_threshold_by_looking(scores[half:], same[half:])
    assert found.thresholds[0] == pytest.approx(expected, abs=1e-15)
    assert found.accuracies[0] == ((scores[:half] > expected) == same[:half]).mean()


def test_neighbouring_floats_are_still_told_apart() -> None:
    low = 0.1
    high = float(np.nextafter(low, 1))
    scores = np.array([low, high] * 4)
    same = np.array([False, True] * 4)
    assert metrics.kfold_accuracy(scores, same, folds=2).mean == 1.0


def insightface_by_looking(distances: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], folds: int) -> list[float]:
    accuracies = []
    for here in np.array_split(np.arange(len(same)), folds):
        others = np.setdiff1d(np.arange(len(same)), here)
        train = [((distances[others] < t) == same[others]).mean() for t in np.arange(0, 4, 0.01)]
        threshold = np.arange(0, 4, 0.01)[int(np.argmax(train))]
        accuracies.append(float(((distances[here] < threshold) == same[here]).mean()))
    return accuracies


@cases
def test_insightface_accuracy_is_that_of_its_grid(seed: int, pairs: int, decimals: int | None) -> None:
    scores, same = scores_of(seed, pairs, decimals)
    found = metrics.kfold_accuracy_insightface(2 - 2 * scores, same, folds=5)
    assert found.accuracies.tolist() == insightface_by_looking(2 - 2 * scores, same, 5)


@pytest.mark.parametrize("successes, trials", [(0, 13), (1, 13), (7, 13), (13, 13), (30, 3001)])
def test_the_binomial_interval_ends_where_the_data_become_improbable(successes: int, trials: int) -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.exp(
            math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1)
            + i * math.log(p) + (trials - i) * math.log1p(-p)
        ) for i in range(k + 1))  # fmt: skip

    low, high = metrics.binomial_interval(successes, trials)
    assert low <= successes / trials <= high
    if successes:
        assert 1 - at_most(successes - 1, low) == pytest.approx(0.025, rel=1e-6)
    if successes < trials:
        assert at_most(successes, high) == pytest.approx(0.025, rel=1e-6)


def test_nan_embeddings_are_refused_by_their_number() -> None:
    embeddings = np.ones((9, 3), np.float32)
    embeddings[[4, 7], 1] = np.nan, np.inf
    with pytest.raises(InputError, match=r"2 of 9 images \(image 4, 7\)"):
        metrics.unit(embeddings)


def test_nan_scores_are_refused() -> None:
    with pytest.raises(InputError, match="first at pair 1"):
        SortedScores.of(np.array([0.1, np.nan]), np.array([True, False]))


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_of_pairs_alone_is_refused(kind: bool) -> None:
    with pytest.raises(InputError, match="expected pairs of both kinds"):
        SortedScores.of(np.array([0.1, 0.2]), np.array([kind, kind]))


def test_all_scores_equal_accept_nobody_at_a_measurable_rate() -> None:
    kernel = SortedScores.of(np.full(20, 0.5), np.arange(20) < 8)
    assert metrics.tar_at_far(kernel, 0.5).tar == 0.0
    assert metrics.tar_at_far(kernel, 1.0).tar == 1.0
    assert metrics.auc(kernel) == 0.5 and metrics.eer(kernel) == 0.5


@pytest.mark.parametrize("decimals", [1, 3, None])
def test_the_nearest_rate_is_read_off_as_insightface_does(decimals: int | None) -> None:
    rng = np.random.default_rng(8)
    same = rng.random(2003) < 0.2
    scores = rng.normal(np.where(same, 0.5, 0.1), 0.2)
    scores = scores if decimals is None else np.round(scores, decimals)
    fpr, tpr, _ = roc_curve(same, scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    fars = [10.0**-power for power in range(6, 0, -1)]
    expected = [tpr[min(zip(abs(fpr - far), range(len(fpr)), strict=True))[1]] for far in fars]
    assert metrics.tar_at_far_insightface(SortedScores.of(scores, same), fars) == expected


def test_float32_scores_are_counted_exactly_at_float64_thresholds() -> None:
    scores = np.sort(np.random.default_rng(0).uniform(-1, 1, 999).astype(np.float32))
    kernel = SortedScores(scores, scores)
    for score in scores[::50].astype(np.float64):
        for threshold in (np.nextafter(score, -9), score, np.nextafter(score, 9)):
            assert kernel.true_accepts(threshold) == (scores.astype(np.float64) > threshold).sum()
            assert kernel.true_accepts(threshold, inclusive=True) == (scores.astype(np.float64) >= threshold).sum()


def test_rejecting_the_worst_pairs_leaves_the_errors_of_the_rest() -> None:
    quality = np.arange(10.0)
    scores = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1.0])
    found = metrics.error_versus_reject(scores <= 0.5, quality, np.array([0, 0.2, 0.4, 0.9]))
    assert found.tolist() == [0.3, 1 / 8, 0, 0]


def test_decidability_and_the_errors_at_zero_false_matches_are_what_their_formulas_say() -> None:
    rng = np.random.default_rng(4)
    same = rng.random(400) < 0.4
    scores = rng.normal(np.where(same, 0.6, 0.1), np.where(same, 0.2, 0.1))
    pooled = np.sqrt((scores[same].var() + scores[~same].var()) / 2)
    expected = (scores[same].mean() - scores[~same].mean()) / pooled
    assert metrics.decidability(SortedScores.of(scores, same)) == pytest.approx(expected)
    assert np.isnan(metrics.decidability(SortedScores(np.ones(3), np.ones(3))))
    fields, _, _ = verification(scores, same, PeoplePairs.unknown(400), (0.1,))
    assert fields["figures"]["FNMR at zero FMR"] == (scores[same] <= scores[~same].max()).mean()
