"""A list of picture pairs, each verified as `zoo verify` does, and what the similarities say where truth is known."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from zoo.errors import InputError
from zoo.evaluate.metrics import SortedScores, auc, eer, tar_at_far
from zoo.formats.images import printable
from zoo.formats.pairs import read_pairs_csv
from zoo.messages import Bar, no_bar
from zoo.recognition.batch import embed_pictures, found_in
from zoo.recognition.journal import spare_journal
from zoo.recognition.threshold import Decision
from zoo.recognition.verifier import FaceVerifier

FARS = (0.1, 0.01, 0.001, 0.0001)  #: Those that a list is asked for; what it is too short to measure is left out


@dataclass(frozen=True)
class PairAnswer:
    """One row of the list."""

    a: Path
    b: Path
    truth: bool | None  #: Whether the two show the same person; None where the list does not say
    similarity: float | None  #: None where one of the pictures cannot be used
    same: bool | None  #: The verdict; None without a threshold or a similarity
    reason: str | None = None  #: Why there is no similarity: one sentence
    notes: tuple[str, ...] = ()  #: What limits the answer, one sentence each

    @property
    def right(self) -> bool | None:
        """Whether the verdict is the truth; None where one of them is missing."""
        return None if self.same is None or self.truth is None else self.same == self.truth


@dataclass(frozen=True)
class Summary:
    """The figures of the rows with a known truth."""

    auc: float
    eer: float
    tar_at_far: dict[float, float]  #: True accept rate by false accept rate, as far as the list can measure
    separating: tuple[float, float] | None  #: (highest of two people, lowest of one) where a threshold separates all
    right: int
    judged: int  #: How many rows have both a verdict and a truth


@dataclass(frozen=True)
class VerifiedPairs:
    """The answers to a list of pairs."""

    rows: tuple[PairAnswer, ...]  #: One for each pair, in the order of the list
    decision: Decision  #: The threshold and where it comes from
    model: Path  #: The ONNX file

    @property
    def failed(self) -> list[PairAnswer]:
        """The rows without a similarity."""
        return [row for row in self.rows if row.similarity is None]

    @property
    def scores(self) -> SortedScores | None:
        """The similarities of the rows with a known truth; None unless there are some of both kinds."""
        known = [(row.similarity, row.truth) for row in self.rows if None not in (row.similarity, row.truth)]
        similarities, truths = np.array(known, np.float64).reshape(-1, 2).T
        return SortedScores.of(similarities, truths > 0) if 0 < truths.sum() < len(truths) else None

    @property
    def summary(self) -> Summary | None:
        """The figures of `scores`, where there are any."""
        scores = self.scores
        if scores is None:
            return None
        points = [tar_at_far(scores, far) for far in FARS]
        worst, best = float(scores.negatives[-1]), float(scores.positives[0])
        judged = [row.right for row in self.rows if row.right is not None]
        rates = {point.far_target: point.tar for point in points if point.measurable}
        separating = (worst, best) if worst < best else None
        return Summary(auc(scores), eer(scores), rates, separating, sum(judged), len(judged))

    def to_json(self) -> str:
        """One JSON object, as `zoo verify --pairs --json` prints it."""
        pairs, summary = [asdict(row) for row in self.rows], self.summary
        answer = {"model": self.model, **self.decision.facts(), "pairs": pairs, "failed": len(self.failed)}
        return json.dumps({**answer, "summary": summary and asdict(summary)}, indent=2, default=str)


def verify_pairs(path: str | Path, verifier: FaceVerifier, workers: int = 2, bar: Bar = no_bar) -> VerifiedPairs:
    """Verifies the pairs of a CSV with the columns a, b and same: what `zoo verify --pairs` does.

    Unlike the benchmark of pairs, a row needs no truth, and a picture that cannot be used fails its own rows alone.
    Each picture is read once. InputError for what is no such list, and for a verifier that takes all faces, as a row
    compares two.
    """
    if verifier.face == "all":
        raise InputError("expected --face largest or central with --pairs, found all: a row compares two faces")
    pairs = read_pairs_csv(path)
    pictures = list(dict.fromkeys(picture for a, b, _ in pairs for picture in (a, b)))
    with spare_journal() as journal, bar("verify", len(pictures)) as progress:
        embed_pictures(verifier, pictures, journal, workers, progress)
        found = {one.path: one for one in found_in(journal)}
    rows = []
    for a, b, truth in pairs:
        first, second = found[printable(a)], found[printable(b)]
        if reason := first.reason or second.reason:
            rows.append(PairAnswer(a, b, truth, None, None, reason))
            continue
        similarity = float(np.clip(np.dot(*(one.embeddings[0].astype(np.float64) for one in (first, second))), -1, 1))
        notes = tuple(dict.fromkeys((*first.notes, *second.notes)))
        rows.append(PairAnswer(a, b, truth, similarity, verifier.decision.accepts(similarity), notes=notes))
    return VerifiedPairs(tuple(rows), verifier.decision, verifier.model)
