"""Pooling embeddings into templates, scoring pairs and searching galleries, in blocks of bounded memory."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from zoo.errors import InputError
from zoo.evaluate.intervals import SEED, Estimate, Replicates, Resampling, shares
from zoo.evaluate.metrics import SortedScores, empty_rows, refuse_non_finite, tar_at_far

Vectors = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
BLOCK_ENTRIES = 1 << 24  #: Scores in memory at once: 64 MiB of float32
TIE = 2e-6  #: Two float32 scores of unit vectors closer than this may be one score summed in another order
FUSION_PAIRS = 10_000  #: Random pairs over which a model's scores are normalised before fusion
PRODUCT_PAYS = 64  #: A score from a matrix product costs about a 64th of one whose two vectors are gathered


def unit_rows(vectors: npt.NDArray[np.floating], what: str = "image") -> Vectors:
    """Each row divided by its L2 norm, (rows, dim) float32; rows of zeros stay. InputError for NaN or infinity."""
    refuse_non_finite(vectors, what)
    norms = np.sqrt(np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64))
    return np.asarray(vectors * (1.0 / np.where(norms > 0, norms, 1.0)).astype(np.float32)[:, None], np.float32)


def pool(
    features: Vectors, template: Indices, medium: Indices, weight: npt.NDArray[np.float64], templates: int
) -> Vectors:
    """Unit template vectors (templates, dim): the mean over a medium's images, summed over media, normalised.

    `features` are (images, dim); image i counts `weight`[i] times and belongs to `template`[i], a number below
    `templates`, and to `medium`[i]. The sum of means is one weighted sum, so one sparse product does it all.
    """
    order = np.lexsort((medium, template))
    starts = np.ones(len(order), bool)
    starts[1:] = (np.diff(template[order]) != 0) | (np.diff(medium[order]) != 0)
    group = np.cumsum(starts) - 1
    frames = np.bincount(group)[group]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(template, minlength=templates))])
    weights = (weight[order] / frames).astype(np.float32)
    return unit_rows(csr_array((weights, order, bounds), shape=(templates, len(features))) @ features, "template")


def pair_scores(units: Vectors, left: Indices, right: Indices) -> npt.NDArray[np.float32]:
    """⟨units[left], units[right]⟩ for every pair: (pairs,) float32 in [−1, 1]; −1 with a row of zeros.

    Pairs are taken by blocks of left rows. Where a block's pairs are dense, one matrix product gives them all;
    where they are sparse, their vectors are gathered, so that time stays linear in the pairs.
    """
    rows, columns = _named(left, len(units)), _named(right, len(units))
    if len(rows) * len(columns) > len(units) ** 2 / 2:  # nearly all pairs: one triangle is enough
        left, right = np.minimum(left, right), np.maximum(left, right)
        rows = _named(left, len(units))
    place = np.empty(len(units), np.int64)
    place[rows] = np.arange(len(rows))
    row = place[left].astype(np.uint16 if len(rows) <= 1 << 16 else np.int64)
    order = np.argsort(row, kind="stable")  # by radix where 16 bits hold the rows
    row = row[order].astype(np.int64)
    scores = np.empty(len(left), np.float32)
    height = max(1, BLOCK_ENTRIES // max(1, len(units)))
    bounds = np.searchsorted(row, np.arange(0, len(rows) + height, height))
    for block, (start, stop) in enumerate(itertools.pairwise(bounds)):
        here = order[start:stop]
        rights = right[here]
        columns = _named(rights, len(units))
        lefts = rows[block * height : (block + 1) * height]
        if len(lefts) * len(columns) <= PRODUCT_PAYS * len(here):
            place[columns] = np.arange(len(columns))
            scores[here] = (units[lefts] @ units[columns].T)[row[start:stop] - block * height, place[rights]]
        else:
            for part in np.array_split(here, len(here) * units.shape[1] // BLOCK_ENTRIES + 1):
                scores[part] = np.einsum("pd,pd->p", units[left[part]], units[right[part]])
    np.clip(scores, -1.0, 1.0, out=scores)
    empty = empty_rows(units)
    if empty.any():  # what failed to enrol matches nothing
        scores[empty[left] | empty[right]] = -1.0
    return scores


def fused(units: Sequence[Vectors]) -> Vectors:
    """Unit rows (rows, dims) whose cosines are the mean of several models' z-normalised ones, up to a linear map.

    `units` are each model's unit rows (rows, dim). A model's cosines are divided by their standard deviation over
    10,000 random pairs of rows: no truth is used. Rows of zeros stay. InputError for a model whose cosines are equal.
    """
    left, right = np.random.default_rng(SEED).integers(0, len(units[0]), (2, FUSION_PAIRS))
    apart = (left != right) & ~empty_rows(units[0])[left] & ~empty_rows(units[0])[right]
    left, right = left[apart], right[apart]
    spreads = np.array([np.std(np.einsum("pd,pd->p", rows[left], rows[right])) if len(left) else 0 for rows in units])
    if not (spreads > TIE).all():
        raise InputError("expected models whose scores differ from pair to pair to fuse, found one whose scores do not")
    weights = np.sqrt(1 / spreads / (1 / spreads).sum()).astype(np.float32)
    return np.hstack([rows * weight for rows, weight in zip(units, weights, strict=True)])


def _named(rows: Indices, size: int) -> Indices:
    """The distinct row numbers below `size` among `rows`, ascending."""
    named = np.zeros(size, bool)
    named[rows] = True
    return np.flatnonzero(named)


@dataclass(frozen=True)
class Search:
    """The outcome of searching probes in a gallery; all arrays are (probes,)."""

    people: Indices  #: The person of each probe
    mated: npt.NDArray[np.bool_]  #: Whether the gallery holds the probe's person
    mate: npt.NDArray[np.float32]  #: The best score of the probe's own person; −∞ where there is none
    ahead: Indices  #: How many gallery entries of other people score as high as the best mate, or higher
    best: npt.NDArray[np.float32]  #: The best score of other people's entries

    def rank(self, n: int) -> float:
        """The share of mated probes with fewer than `n` entries of other people at or above their mate."""
        return float((self.ahead[self.mated] < n).mean())

    @cached_property
    def _draws(self) -> tuple[Resampling, Indices]:
        _, person = np.unique(self.people, return_inverse=True)
        return Resampling.of(int(person.max()) + 1, len(person)), person

    @property
    def method(self) -> str:
        """How the intervals are found, for a report."""
        draws, _ = self._draws
        return f"bootstrap of {draws.people:,} people's probes, {draws.replicates:,} replicates, seed {SEED}"

    @cached_property
    def _found(self) -> npt.NDArray[np.float32]:
        """The scores at which mated probes are identified: (mated,); −∞ for those not at rank 1."""
        return np.where(self.ahead[self.mated] == 0, self.mate[self.mated], -np.inf).astype(np.float32)

    @cached_property
    def open_set(self) -> SortedScores:
        """The scores at which mated probes are identified, −∞ for those not at rank 1, and the best of the others."""
        return SortedScores(np.sort(self._found), np.sort(self.best[~self.mated]))

    def estimates(self, ranks: Sequence[int], fpirs: Sequence[float]) -> dict[str, Estimate]:
        """The ranks and the measurable rates by their label, with their values in every draw of people.

        A person is drawn with their probes; the gallery stays, and thresholds are found anew in every draw.
        """
        draws, person = self._draws
        own = person[self.mated]
        people = len(np.unique(own))
        found = {}
        for n in ranks:
            wrong, right = draws.sums((self.ahead[self.mated] < n).astype(np.int64), 2, own, own)
            found[f"rank {n}"] = Estimate(self.rank(n), shares(right, wrong + right), people)
        points = [tar_at_far(self.open_set, fpir) for fpir in fpirs if not self.mated.all()]
        if measured := [point for point in points if point.measurable]:
            scores = np.concatenate([self._found, self.best[~self.mated]])
            owner = np.concatenate([own, person[~self.mated]])
            replicates = Replicates.of(scores, np.arange(len(scores)) < len(own), owner, owner, draws)
            for point in measured:
                estimate = Estimate(point.tar, replicates.tar(point.far_target), people)
                found[f"TPIR@FPIR {point.far_target:g}"] = estimate
        return found


def search(probes: Vectors, gallery: Vectors, probe_ids: Indices, gallery_ids: Indices) -> Search:
    """Compares every unit probe (probes, dim) with every unit gallery vector (gallery, dim), by blocks.

    Ids below 0 are distractors. Ties count against the mate, so that a constant embedding has rank 0.
    A row of zeros failed to enrol: all of its scores are −1. InputError for an empty gallery.
    """
    if not len(gallery) or not len(probes):
        raise InputError(f"expected probes and a gallery, found {len(probes)} and {len(gallery)}")
    by_id = np.argsort(gallery_ids, kind="stable")
    low = np.searchsorted(gallery_ids, probe_ids, side="left", sorter=by_id)
    mates = np.where(probe_ids < 0, 0, np.searchsorted(gallery_ids, probe_ids, side="right", sorter=by_id) - low)
    probe_of = np.repeat(np.arange(len(probes)), mates)
    offset = np.arange(len(probe_of)) - np.repeat(np.cumsum(mates) - mates, mates)
    entry_of = by_id[np.repeat(low, mates) + offset]
    mate = np.full(len(probes), -np.inf, np.float32)
    empty_probes, empty_entries = empty_rows(probes), empty_rows(gallery)
    own = np.einsum("pd,pd->p", probes[probe_of], gallery[entry_of])
    np.maximum.at(mate, probe_of, np.where(empty_probes[probe_of] | empty_entries[entry_of], np.float32(-1.0), own))
    by_entry = np.argsort(entry_of, kind="stable")
    probe_of, entry_of = probe_of[by_entry], entry_of[by_entry]
    threshold = np.where(mates > 0, mate - np.float32(TIE), np.inf).astype(np.float32)[:, None]
    ahead = np.zeros(len(probes), np.int64)
    best = np.full(len(probes), -np.inf, np.float32)
    columns = max(256, BLOCK_ENTRIES // len(probes))
    for start in range(0, len(gallery), columns):
        scores = probes @ gallery[start : start + columns].T
        scores[empty_probes] = -1.0
        scores[:, empty_entries[start : start + columns]] = -1.0
        mine = slice(*np.searchsorted(entry_of, [start, start + columns]))
        scores[probe_of[mine], entry_of[mine] - start] = -np.inf  # a probe's mates do not compete with each other
        ahead += np.count_nonzero(scores >= threshold, axis=1)
        np.maximum(best, scores.max(axis=1), out=best)
    return Search(probe_ids, mates > 0, mate, ahead, best)
