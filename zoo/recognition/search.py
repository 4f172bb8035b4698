"""The exact nearest neighbours by cosine: in blocks of templates, or with faiss where there are very many."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt

BLOCK = 16_384
"""Templates compared at once: 32 MB of 512-d ones, however many there are."""

MANY = 1_000_000
"""Templates beyond which faiss, where it is installed, searches instead of blocks: as exactly, with every core."""

Hits = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""The indices of the most similar templates of each query, best first, and their cosines: both (queries, k)."""


def search(templates: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int) -> Hits:
    """The min(k, count) most similar `templates` (count, dim) of each of `queries` (queries, dim), both unit-length.

    The lower index wins a tie; with faiss, any of those that tie for the last place.
    """
    if len(templates) > MANY and importlib.util.find_spec("faiss"):
        return _by_faiss(templates, queries, min(k, len(templates)))
    best = np.empty((len(queries), 0), np.float32)
    found = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(templates), BLOCK):
        scores = queries @ templates[start : start + BLOCK].T
        if k < scores.shape[1]:
            # argpartition picks any of equal scores: take all that reach the k-th, in order
            here = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            least = np.take_along_axis(scores, here, 1).min(1, keepdims=True)
            here = np.stack([_first(row >= low, row > low, k) for row, low in zip(scores, least, strict=True)])
        else:
            here = np.tile(np.arange(scores.shape[1]), (len(queries), 1))
        best = np.concatenate([best, np.take_along_axis(scores, here, 1)], 1)
        found = np.concatenate([found, here + start], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
    return found, best


def _by_faiss(templates: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int) -> Hits:
    import faiss

    scores, found = faiss.knn(np.ascontiguousarray(queries), templates, k, metric=faiss.METRIC_INNER_PRODUCT)
    order = np.lexsort((found, -scores), axis=1)
    return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)


def _first(reaching: npt.NDArray[np.bool_], above: npt.NDArray[np.bool_], k: int) -> npt.NDArray[np.int64]:
    """The k columns of one row: all that lie above the k-th score, then the first that equal it."""
    sure = np.flatnonzero(above)
    equal = np.flatnonzero(reaching & ~above)
    return np.sort(np.concatenate([sure, equal[: k - len(sure)]]))
