"""Verification pairs: insightface's `.bin` files (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, XQLFW), and lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.comparison import error_versus_reject, pack
from zoo.evaluate.intervals import AUC, EER, Estimate, PeoplePairs
from zoo.evaluate.lists import Listed
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.protocols.base import (
    PROTOCOLS,
    Evaluation,
    Figures,
    all_equal,
    check_compat,
    check_embeddings,
    curves,
    points_figures,
)
from zoo.faces.crop import Cut
from zoo.files import sha256
from zoo.formats.bins import read_bin
from zoo.formats.images import Image, decode
from zoo.formats.photos import read_photo

FARS = (0.1, 0.01, 0.001, 0.0001)
"""The false accept rates that are asked for."""


@PROTOCOLS.register("pairs")
class PairsProtocol:
    """Same person or not, over pairs of faces: 10-fold accuracy, AUC, EER, TAR@FAR (LFW, CFP-FP, AgeDB-30, …).

    `images` are encoded pictures, paths, or RGB uint8 (2 · pairs, H, W, 3); those of pair i lie at 2i and 2i + 1.
    `same` is bool (pairs,). Pairs keep their order: folds are cut from it. A picture that several pairs show is
    embedded once, so `len` counts distinct pictures. `people` names who is on either side, (pairs,) each, where that
    is known: then intervals draw people, else pairs. `cut` makes aligned crops of loose pictures; one without a face
    fails to enrol, and its pairs are scored −1: as no match.
    """

    def __init__(
        self,
        images: Sequence[bytes | Path] | npt.NDArray[np.uint8],
        same: npt.NDArray[np.bool_],
        name: str = "pairs",
        data: str = "",
        data_sha256: str = "",
        people: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]] | None = None,
        cut: Cut | None = None,
    ) -> None:
        if len(images) != 2 * len(same):
            raise InputError(f"expected two images a pair, found {len(images)} for {len(same)} pairs")
        self._images, self._place = _distinct(images)
        self.same = np.asarray(same, bool)
        self.name, self.data, self.data_sha256 = name, data, data_sha256
        self.people, self.cut = people, cut

    @classmethod
    def from_list(cls, listed: Listed, data: str, cut: Cut | None = None) -> PairsProtocol:
        """The pairs of a list over folders of pictures."""
        digest = listed.sha256
        return cls(listed.pictures, listed.same, data=data, data_sha256=digest, people=listed.people, cut=cut)

    @classmethod
    def from_bin(cls, path: str | Path) -> PairsProtocol:
        """The pairs of a `.bin` file, decoded only when their turn comes. InputError for what is no such file."""
        images, same = read_bin(path)
        return cls(images, same, data=Path(path).name, data_sha256=sha256(path))

    def __len__(self) -> int:
        return len(self._images)

    def images(self) -> Iterator[Image | None]:
        """RGB uint8 (H, W, 3), each picture once, in the order in which the pairs first name it."""
        for index in range(len(self)):
            yield self.image(index)

    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found to cut out."""
        image = self._images[index]
        if isinstance(image, Path):
            photo = read_photo(image)
            return photo if self.cut is None else self.cut(photo, image)
        return decode(image, f"{self.data}, image {index}") if isinstance(image, bytes) else image

    def content_sha256(self) -> str:
        """The hash of the pictures and of what cuts them, which alone the embeddings depend on."""
        digest = hashlib.sha256((self.cut.sha256() if self.cut else "").encode())
        for image in self._images:
            digest.update(bytes.fromhex(sha256(image)) if isinstance(image, Path) else _digest(image))
            digest.update(repr(image.shape).encode() if isinstance(image, np.ndarray) else b"")
        return digest.hexdigest()

    @cached_property
    def who(self) -> PeoplePairs:
        """The people of the pairs, or the pairs themselves where nobody is named."""
        return PeoplePairs.of(*self.people) if self.people else PeoplePairs.unknown(len(self.same))

    def cosines(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The pairs' scores (pairs,) in [−1, 1] from raw embeddings (images, dim); −1 with a picture that failed."""
        check_embeddings(embeddings, len(self))
        paths = isinstance(self._images[0], Path)
        metrics.refuse_non_finite(embeddings, names=self._images if paths else None)
        units = metrics.unit(embeddings)
        left, right = units[self._place[0::2]], units[self._place[1::2]]
        cosines: npt.NDArray[np.float64] = np.clip(np.einsum("pd,pd->p", left, right), -1.0, 1.0)
        cosines[self._failed(embeddings)] = -1.0
        return cosines

    def _failed(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Which pairs hold a picture without an embedding: bool (pairs,)."""
        failed = metrics.empty_rows(embeddings)[self._place]
        return np.asarray(failed[0::2] | failed[1::2])

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Figures:
        """The figures for raw embeddings (images, dim); `compat="insightface"` finds the accuracy as they do."""
        check_compat(compat)
        cosines = self.cosines(embeddings)
        figures, _, _ = self._figures(cosines, SortedScores.of(cosines, self.same), embeddings, compat)
        return figures

    def evaluate(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures, and what a report draws of the same scores."""
        check_compat(compat)
        cosines = self.cosines(embeddings)
        scores = SortedScores.of(cosines, self.same)
        figures, right, estimates = self._figures(cosines, scores, embeddings, compat)
        return Evaluation(
            figures,
            {
                **curves(scores),
                "right": pack(right),
                "estimates": {label: estimate.packed() for label, estimate in estimates.items()},
                "hardest": self._hardest(cosines),
                "rejection": self._rejection(cosines, scores, embeddings),
            },
        )

    def _hardest(self, cosines: npt.NDArray[np.float64], count: int = 8) -> dict[str, list[tuple[int, float]]]:
        """The most similar pairs of two people and the least similar of one: (pair, similarity)."""
        order = np.argsort(cosines, kind="stable")
        alike, unlike = order[~self.same[order]][::-1][:count], order[self.same[order]][:count]
        return {
            "false_accepts": [(int(pair), float(cosines[pair])) for pair in alike],
            "false_rejects": [(int(pair), float(cosines[pair])) for pair in unlike],
        }

    def _rejection(
        self, cosines: npt.NDArray[np.float64], scores: SortedScores, embeddings: npt.NDArray[np.floating]
    ) -> Figures:
        """How errors fall when the pairs of the shortest embeddings are turned away, at the threshold of FAR 0.01."""
        point = metrics.tar_at_far(scores, 0.01)
        if not point.measurable:
            return {}
        norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)[self._place]
        quality = np.minimum(norms[0::2], norms[1::2])
        shares = np.round(np.arange(0, 0.96, 0.05), 2)
        rates = error_versus_reject(cosines[self.same], quality[self.same], point.threshold, shares)
        return {"far": 0.01, "rejected": shares.tolist(), "fnmr": rates.tolist()}

    def pair_images(self, pair: int) -> tuple[Image, Image]:
        """Both pictures of a pair: RGB uint8 (H, W, 3), black where no face was found."""
        first, second = (self.image(int(self._place[2 * pair + side])) for side in (0, 1))
        black = np.zeros((112, 112, 3), np.uint8)
        return black if first is None else first, black if second is None else second

    def _figures(
        self,
        cosines: npt.NDArray[np.float64],
        scores: SortedScores,
        embeddings: npt.NDArray[np.floating],
        compat: str | None,
    ) -> tuple[Figures, metrics.Bools, dict[str, Estimate]]:
        folds = min(10, len(self.same))
        if compat == "insightface":
            units = metrics.unit(embeddings)[self._place]
            distances = np.sum(np.square(units[0::2] - units[1::2]), axis=1)
            distances[self._failed(embeddings)] = 4.0
            accuracy = metrics.kfold_accuracy_insightface(distances, self.same, folds)
        else:
            accuracy = metrics.kfold_accuracy(cosines, self.same, folds)
        points = [metrics.tar_at_far(scores, far) for far in FARS]
        auc, eer = metrics.auc(scores), metrics.eer(scores)
        who = self.who
        tars = {point.far_target: point.tar for point in points if point.measurable}
        estimates = who.rates(cosines, self.same, auc, eer, tars)
        if who.known:
            estimates["accuracy"] = who.share(accuracy.right, accuracy.mean)
        figures = {
            "protocol": self.name,
            "data": self.data,
            "data_sha256": self.data_sha256,
            "compat": compat,
            "pairs": len(self.same),
            "positives": len(scores.positives),
            "negatives": len(scores.negatives),
            "accuracy": accuracy.mean,
            "accuracy_std": accuracy.std,
            "accuracy_interval": estimates["accuracy"].interval
            if who.known
            else metrics.binomial_interval(accuracy.correct, accuracy.pairs),
            "folds": folds,
            "fold_accuracies": accuracy.accuracies.tolist(),
            "fold_thresholds": accuracy.thresholds.tolist(),
            "fold_thresholds_are": "squared L2 distances" if compat else "cosine similarities",
            "auc": auc,
            "auc_interval": estimates[AUC].interval,
            "eer": eer,
            "eer_interval": estimates[EER].interval,
            **points_figures(points, estimates if who.known else None),
            "intervals": who.told,
        }
        figures["not_measurable"] += all_equal(scores)
        if self.people:
            figures |= {"images": len(self), "people": who.draws.people}
        failed = int(metrics.empty_rows(embeddings).sum())
        if self.cut is not None or failed:
            figures["failures"] = {
                "images": failed,
                "of": len(self),
                "pairs": int(self._failed(embeddings).sum()),
                "policy": "their pairs are scored as no match",
                "cut": self.cut.told if self.cut else "",
            }
        return figures, accuracy.right, estimates


def _distinct(
    images: Sequence[bytes | Path] | npt.NDArray[np.uint8],
) -> tuple[list[bytes | Path | Image], npt.NDArray[np.int64]]:
    """The pictures without repetitions, and which of them each one was; paths are told apart by name."""
    kept: list[bytes | Path | Image] = []
    seen: dict[object, int] = {}
    place = np.empty(len(images), np.int64)
    for index, image in enumerate(images):
        key = image if isinstance(image, Path) else (_digest(image), getattr(image, "shape", None))
        place[index] = seen.setdefault(key, len(kept))
        if place[index] == len(kept):
            kept.append(image)
    return kept, place


def _digest(image: bytes | Image) -> bytes:
    return hashlib.sha256(image if isinstance(image, bytes) else np.ascontiguousarray(image).data).digest()
