"""The search by bounded 8-bit codes against the sorted brute force, and proof that the bound is needed and enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.toy_faces import unit_rows
from zoo.recognition import search as module
from zoo.recognition.search import Codes, search

Floats = npt.NDArray[np.float32]


def brute(templates: Floats, queries: Floats, k: int) -> npt.NDArray[np.int64]:
    cosines = (queries.astype(np.float64) @ templates.astype(np.float64).T).astype(np.float32)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def crowd(people: int, dim: int, seed: int, spread: float) -> Floats:
    """Templates that differ by less than what 8 bits keep, the hardest case."""
    rows = unit_rows(1, dim, seed) + spread * unit_rows(people, dim, seed + 1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_the_search_is_the_sorted_brute_force(block: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    templates, queries = unit_rows(131, 7, 0), unit_rows(5, 7, 1)
    people, scores = search(templates, Codes.of(templates), queries, k)
    np.testing.assert_array_equal(people, brute(templates, queries, k))
    expected = np.take_along_axis(queries.astype(np.float64) @ templates.T, people, 1)
    np.testing.assert_allclose(scores, expected, atol=7 * 2**-24)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cores", [1, 3])
def test_people_closer_than_the_codes_can_tell_are_told_apart(
    seed: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 100)
    monkeypatch.setattr(module, "cores", lambda: cores)
    templates = crowd(1000, 64, seed, 0.01)
    people, _ = search(templates, Codes.of(templates), templates[:9] + 0.001 * unit_rows(9, 64, 99), 3)
    np.testing.assert_array_equal(people, brute(templates, templates[:9] + 0.001 * unit_rows(9, 64, 99), 3))


def test_without_the_bound_the_codes_alone_would_find_others() -> None:
    templates = crowd(1000, 64, 0, 0.01)
    codes = Codes.of(templates)
    blind = replace(codes, errors=np.zeros(len(templates), np.float32))  # trusts the codes
    queries = np.eye(64, dtype=np.float32)  # which 8 bits hold without a rest
    exact, trusted = (search(templates, one, queries, 1)[0] for one in (codes, blind))
    np.testing.assert_array_equal(exact, brute(templates, queries, 1))
    assert (exact != trusted).any()


def test_a_row_lies_as_near_to_its_code_as_the_code_says() -> None:
    rows = np.concatenate([unit_rows(40, 9, 0), np.zeros((1, 9), np.float32), np.eye(9, dtype=np.float32)])
    codes = Codes.of(rows)
    missed = np.linalg.norm(rows.astype(np.float64) - codes.scales[:, None].astype(np.float64) * codes.values, axis=1)
    assert (missed <= codes.errors).all() and codes.errors.max() < 0.02


@pytest.mark.parametrize("block", [3, 4, 100])
def test_ties_go_to_the_lower_index_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    templates = np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]]
    people, _ = search(templates, Codes.of(templates), np.eye(2, dtype=np.float32)[:1], 5)
    assert people.tolist() == [[1, 2, 4, 5, 7]]


def test_nobody_is_found_among_nobody() -> None:
    nobody = np.zeros((0, 7), np.float32)
    people, scores = search(nobody, Codes.of(nobody), unit_rows(2, 7, 0), 3)
    assert people.shape == scores.shape == (2, 0)
