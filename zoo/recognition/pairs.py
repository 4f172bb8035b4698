"""A list of picture pairs, verified one by one, and what the similarities are worth where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.metrics import SortedScores, auc, eer, tar_at_far
from zoo.recognition.verifier import FaceCrop, FaceVerifier

FARS = (0.1, 0.01, 0.001, 0.0001)
"""The false accept rates that a list is asked for; those it is too short to measure are left out."""

Progress = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


@dataclass(frozen=True)
class PairAnswer:
    """One row of the list."""

    a: Path
    b: Path
    truth: bool | None
    """Whether the two show the same person; None where the list does not say."""
    similarity: float | None
    """None where one of the pictures could not be used."""
    same: bool | None
    """The verdict; None without a threshold or a similarity."""
    reason: str = ""
    """Why there is no similarity: one sentence."""

    @property
    def right(self) -> bool | None:
        """Whether the verdict is the truth; None where one of them is missing."""
        return None if self.same is None or self.truth is None else self.same == self.truth


@dataclass(frozen=True)
class Summary:
    """What the rows with a known truth say together."""

    scores: SortedScores
    auc: float
    eer: float
    tar_at_far: dict[float, float]
    """True accept rate by false accept rate, as far as the list can measure."""
    separating: tuple[float, float] | None
    """(highest similarity of different people, lowest of the same person) where one threshold separates all."""
    right: int
    judged: int
    """How many rows have both a verdict and a truth."""


def verify_pairs(
    verifier: FaceVerifier,
    pairs: Sequence[tuple[Path, Path, bool | None]],
    progress: Progress | None = None,
    batch_size: int = 32,
) -> list[PairAnswer]:
    """An answer for each pair, in order. Each picture is read once; one that cannot be used fails its rows alone."""
    pictures = list(dict.fromkeys(path for a, b, _ in pairs for path in (a, b)))
    embeddings: dict[Path, npt.NDArray[np.float32]] = {}
    reasons: dict[Path, str] = {}
    for done, (path, embedding, reason) in enumerate(_embedded(verifier, pictures, batch_size), 1):
        if embedding is None:
            reasons[path] = reason
        else:
            embeddings[path] = embedding
        if progress is not None:
            progress(done, len(pictures))
    threshold = verifier.decision.threshold
    answers = []
    for a, b, truth in pairs:
        failure = reasons.get(a) or reasons.get(b)
        if failure:
            answers.append(PairAnswer(a, b, truth, None, None, failure))
            continue
        similarity = float(np.clip(embeddings[a].astype(np.float64) @ embeddings[b].astype(np.float64), -1, 1))
        answers.append(PairAnswer(a, b, truth, similarity, None if threshold is None else similarity > threshold))
    return answers


def summarise(answers: Sequence[PairAnswer]) -> Summary | None:
    """The rows' ROC figures; None unless pairs of both kinds have a similarity."""
    known = [(answer.similarity, answer.truth) for answer in answers if answer.similarity is not None]
    known = [(similarity, truth) for similarity, truth in known if truth is not None]
    truths = np.array([truth for _, truth in known], dtype=bool)
    if not known or truths.all() or not truths.any():
        return None
    scores = SortedScores.of(np.array([similarity for similarity, _ in known], dtype=np.float64), truths)
    points = [tar_at_far(scores, far) for far in FARS]
    worst, best = float(scores.negatives[-1]), float(scores.positives[0])
    judged = [answer.right for answer in answers if answer.right is not None]
    return Summary(
        scores,
        auc(scores),
        eer(scores),
        {point.far_target: point.tar for point in points if point.measurable},
        (worst, best) if worst < best else None,
        sum(judged),
        len(judged),
    )


def _embedded(
    verifier: FaceVerifier, pictures: Sequence[Path], batch_size: int
) -> Iterable[tuple[Path, npt.NDArray[np.float32] | None, str]]:
    """Each picture's unit embedding or the reason why it has none, crops going through the model in batches."""
    held: list[tuple[Path, FaceCrop]] = []

    def flush() -> Iterable[tuple[Path, npt.NDArray[np.float32] | None, str]]:
        if held:
            rows = verifier.embed_crops([crop for _, crop in held])
            yield from ((path, row, "") for (path, _), row in zip(held, rows, strict=True))
            held.clear()

    for path in pictures:
        try:
            held.append((path, verifier.crop(path)))
        except InputError as error:
            yield path, None, str(error)
        if len(held) == batch_size:
            yield from flush()
    yield from flush()
