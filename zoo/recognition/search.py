"""The exact nearest neighbours by cosine: a first pass over 8-bit codes whose error is bounded, then float32."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import simsimd

from zoo.machine import cores

BLOCK = 16_384  #: Rows that are coded or compared at once

Floats = npt.NDArray[np.float32]
Hits = tuple[npt.NDArray[np.int64], Floats]
"""The indices of the most similar templates of each query, best first, and their cosines: both (queries, k)."""


@dataclass(frozen=True)
class Codes:
    """Rows in 8 bits: row i is scales[i] · values[i] but for a rest whose norm is at most errors[i]."""

    values: npt.NDArray[np.int8]  #: (rows, dim)
    scales: Floats  #: (rows,)
    errors: Floats  #: (rows,)

    @classmethod
    def of(cls, rows: Floats) -> Self:
        """The codes of rows (rows, dim), a quarter of their size, made block by block."""
        codes = cls(np.empty(rows.shape, np.int8), *np.empty((2, len(rows)), np.float32))
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            scales = np.abs(rows[part]).max(axis=1, initial=1e-30) / 127
            codes.values[part] = np.rint(rows[part] / scales[:, None])
            codes.scales[part] = scales
            codes.errors[part] = np.linalg.norm(rows[part] - scales[:, None] * codes.values[part], axis=1) + 1e-6
        return codes


def search(templates: Floats, codes: Codes, queries: Floats, k: int) -> Hits:
    """The min(k, count) most similar `templates` (count, dim) of each of `queries` (queries, dim), both unit-length.

    `codes` are those of the templates, most of which are never touched: a product of codes differs from the cosine by
    at most the norms of what the codes leave out (Cauchy-Schwarz), and only those that may be among the best are
    compared exactly. The lower index wins a tie.
    """
    k, threads, coded = min(k, len(templates)), cores(), Codes.of(queries)
    found, best = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    if not k:
        return found, best
    edges = np.linspace(0, len(templates), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda start, stop: _near(codes, coded, k, start, stop), edges, edges[1:]))
    for number, query in enumerate(queries.astype(np.float64)):
        near = np.sort(_still_near(np.concatenate([part[number] for part in parts], axis=1), k)[0].astype(np.int64))
        # summed in float64, so that equal templates have equal cosines wherever they lie
        scores = np.concatenate([templates[near[i : i + BLOCK]] @ query for i in range(0, len(near), BLOCK)])
        order = np.argsort(-scores.astype(np.float32), kind="stable")[:k]
        found[number], best[number] = near[order], scores[order]
    return found, best


def _near(codes: Codes, queries: Codes, k: int, start: int, stop: int) -> list[npt.NDArray[np.float64]]:
    """For each query the rows from `start` to before `stop` that may be among the k best.

    An array (3, rows) each: the row's index, and what its cosine is at least and at most.
    """
    near = [np.empty((3, 0))] * len(queries.values)
    for begin in range(start, stop, BLOCK):
        part = slice(begin, min(begin + BLOCK, stop))
        products = np.asarray(simsimd.cdist(queries.values, codes.values[part], metric="dot"))
        for number, (scale, missed) in enumerate(zip(queries.scales, queries.errors, strict=True)):
            cosines = products[number] * (codes.scales[part] * scale)
            margins = codes.errors[part] * (1 + missed) + missed
            held = near[number]
            least = np.partition(held[1], -k)[-k] if held.shape[1] >= k else -np.inf
            new = np.flatnonzero(cosines + margins >= least)
            bounds = np.stack([new + begin, cosines[new] - margins[new], cosines[new] + margins[new]])
            near[number] = _still_near(np.concatenate([held, bounds], axis=1), k)
    return near


def _still_near(near: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    """Without the rows whose cosine is certainly below those of k others."""
    return near[:, near[2] >= np.partition(near[1], -k)[-k]] if near.shape[1] > k else near
