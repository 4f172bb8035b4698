"""The search by blocks and by faiss against the sorted brute force."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.toy_faces import unit_rows
from zoo.recognition import search as module
from zoo.recognition.search import Hits, search

Floats = npt.NDArray[np.float32]


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_the_search_by_blocks_is_the_sorted_brute_force(block: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    templates, queries = unit_rows(131, 7, 0), unit_rows(5, 7, 1)
    people, scores = search(templates, queries, k)
    expected = queries @ templates.T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(people, order)
    # one product of another shape may sum in another order
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=7 * 2**-23)


@pytest.mark.parametrize("block", [3, 4, 100])
def test_ties_go_to_the_lower_index_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    templates = np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]]
    people, _ = search(templates, np.eye(2, dtype=np.float32)[:1], 5)
    assert people.tolist() == [[1, 2, 4, 5, 7]]


@pytest.mark.parametrize("k", [1, 5, 200])
def test_beyond_a_million_faiss_finds_the_same_people(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra faiss is not installed")
    templates, queries = unit_rows(131, 7, 0), unit_rows(5, 7, 1)
    expected = search(templates, queries, k)
    monkeypatch.setattr(module, "MANY", 100)
    used: list[int] = []
    original = module._by_faiss

    def counted(templates: Floats, queries: Floats, k: int) -> Hits:
        used.append(k)
        return original(templates, queries, k)

    monkeypatch.setattr(module, "_by_faiss", counted)
    people, scores = search(templates, queries, k)
    assert used
    np.testing.assert_array_equal(people, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=7 * 2**-23)
