"""Pooling, scores of pairs and searches: against loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.benchmarks import pooled_by_loops
from zoo.errors import InputError
from zoo.evaluate.metrics import tar_at_far
from zoo.evaluate.similarity import fused, pair_scores, pool, search, unit_rows

Array = npt.NDArray[np.float32]


def units(seed: int, rows: int, dim: int = 13) -> Array:
    return unit_rows(np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32))


def test_pooling_is_the_mean_over_a_medium_summed_over_media() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((211, 7), dtype=np.float32) * rng.uniform(0.1, 9, (211, 1)).astype(np.float32)
    template = np.concatenate([np.arange(37), rng.integers(0, 37, 174)])
    medium, weight = rng.integers(0, 4, 211), rng.uniform(0.2, 1, 211)
    found = pool(features, template, medium, weight, 37)
    np.testing.assert_allclose(found, pooled_by_loops(features, template, medium, weight, 37), atol=2e-6)
    unweighted = pool(features, template, medium, np.ones(211), 37)
    assert np.abs(found - unweighted).max() > 1e-2


@pytest.mark.parametrize("pairs, lefts", [(1, 1), (5, 301), (900, 301), (40_001, 301), (40_001, 7)])
def test_pair_scores_are_inner_products_sparse_or_dense(pairs: int, lefts: int) -> None:
    rng = np.random.default_rng(pairs)
    rows = units(1, 301)
    left, right = rng.integers(0, lefts, pairs), rng.integers(0, 301, pairs)
    expected = np.einsum("pd,pd->p", rows[left].astype(np.float64), rows[right].astype(np.float64))
    np.testing.assert_allclose(pair_scores(rows, left, right), expected, atol=1e-6)


def test_blocks_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows, left, right = units(1, 301), rng.integers(0, 301, 5003), rng.integers(0, 301, 5003)
    whole = pair_scores(rows, left, right)
    monkeypatch.setattr("zoo.evaluate.similarity.BLOCK_ENTRIES", 301 * 17)
    np.testing.assert_allclose(pair_scores(rows, left, right), whole, atol=1e-6)


def test_a_search_counts_other_people_at_or_above_the_best_mate(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    probes, gallery = units(3, 41, 5), units(4, 307, 5)
    probe_ids, gallery_ids = rng.integers(0, 30, 41), np.where(rng.random(307) < 0.5, -1, rng.integers(0, 25, 307))
    monkeypatch.setattr("zoo.evaluate.similarity.BLOCK_ENTRIES", 41 * 256)
    found = search(probes, gallery, probe_ids, gallery_ids)
    scores = probes.astype(np.float64) @ gallery.T.astype(np.float64)
    for p in range(41):
        own = gallery_ids == probe_ids[p]
        assert found.mated[p] == own.any()
        assert found.best[p] == pytest.approx(scores[p][~own].max(), abs=1e-6)
        if own.any():
            assert found.ahead[p] == (scores[p][~own] >= scores[p][own].max()).sum()
    assert found.rank(3) == (found.ahead[found.mated] < 3).mean()


def test_a_constant_embedding_has_rank_0_and_a_perfect_one_rank_1() -> None:
    ids = np.arange(9)
    constant = unit_rows(np.full((9, 512), 0.37, np.float32))
    distractors = np.repeat(constant[:1], 600, axis=0)
    gallery_ids = np.concatenate([ids, np.full(600, -1)])
    assert search(constant, np.concatenate([constant, distractors]), ids, gallery_ids).rank(20) == 0.0
    perfect = np.eye(9, 512, dtype=np.float32)
    assert search(perfect, np.concatenate([perfect, distractors]), ids, gallery_ids).rank(1) == 1.0


def test_open_set_rates_need_rank_1_and_a_score_above_the_threshold() -> None:
    probes, gallery = units(6, 500, 4), units(7, 40, 4)
    probe_ids, gallery_ids = np.arange(500) % 80, np.arange(40)
    found = search(probes, gallery, probe_ids, gallery_ids)
    strangers = np.sort(found.best[~found.mated])
    for fpir in (0.1, 0.01):
        allowed = math.floor(fpir * len(strangers) + 1e-9)
        threshold = strangers[len(strangers) - 1 - allowed]
        expected = ((found.ahead == 0) & (found.mate > threshold))[found.mated].mean()
        assert tar_at_far(found.open_set, fpir).tar == pytest.approx(expected)
    assert math.isnan(tar_at_far(found.open_set, 1e-6).tar)


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="expected probes and a gallery"):
        search(units(0, 3), units(0, 3)[:0], np.arange(3), np.arange(0))


def test_who_failed_to_enrol_is_found_by_nobody_and_finds_nobody() -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32))
    probes, gallery, ids = rows[:4].copy(), -rows[:4], np.arange(4)
    gallery[3] = probes[3]
    probes[0] = 0
    gallery[1] = 0
    found = search(probes, gallery, ids, ids)
    assert found.mate[0] == found.mate[1] == -1 and found.ahead[0] == 3  # ties count against the mate
    assert found.best[0] == -1 and found.ahead[3] == 0
    assert pair_scores(probes, np.array([0, 1, 2]), np.array([1, 1, 0])).tolist() == [-1, pytest.approx(1), -1]


def test_fused_rows_order_pairs_as_the_mean_of_normalised_scores_does() -> None:
    rng = np.random.default_rng(0)
    wide = units(1, 301, 40)
    narrow = unit_rows(units(2, 301, 5) + np.float32(0.7))  # scores of another mean and spread
    wide[17] = narrow[17] = 0
    left, right = rng.integers(0, 301, (2, 4000))
    usable = (left != right) & (left != 17) & (right != 17)
    left, right = left[usable], right[usable]
    z = []
    for rows in (wide, narrow):
        whole = rows.astype(np.float64) @ rows.T
        others = whole[~np.eye(301, dtype=bool) & rows.any(axis=1)[:, None] & rows.any(axis=1)]
        z.append((whole[left, right] - others.mean()) / others.std())
    both = fused([wide, narrow])
    found = np.einsum("pd,pd->p", both[left], both[right])
    assert np.corrcoef(found, z[0] + z[1])[0, 1] > 0.9995  # the spread is estimated from 10,000 pairs
    assert np.corrcoef(found, z[0])[0, 1] < 0.9
    np.testing.assert_allclose(np.linalg.norm(np.delete(both, 17, axis=0), axis=1), 1, atol=1e-6)
    assert not both[17].any()
    with pytest.raises(InputError, match="found one whose scores do not"):
        fused([wide, np.broadcast_to(wide[0], wide.shape)])
