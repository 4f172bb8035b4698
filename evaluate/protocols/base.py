"""What every protocol offers: benchmarks that it finds on disk, images to embed, and figures from the embeddings."""

import abc
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.intervals import AUC, EER, Estimate, PeoplePairs
from zoo.evaluate.metrics import Bools, Counts, Floats, SortedScores
from zoo.evaluate.results import Curves, Evaluation, Failures, Identification, Point
from zoo.evaluate.similarity import Indices, Search, fused, search, unit_rows
from zoo.faces.finder import DetectorCut
from zoo.files import sha256
from zoo.formats.images import Image
from zoo.registry import Registry

FEATURES = ("N1D1", "N1D0", "N0D1", "N0D0")  #: How IJB's images are weighed, by insightface's letters; F is the flip
COMPATS = ("insightface",)
CLOSED_RANKS = (1, 5, 20)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as published: what a whole copy holds."""

    name: str  #: What --protocol calls it
    title: str  #: What people call it
    files: tuple[str, ...] = ()  #: The names under which its file is handed out
    counts: tuple[tuple[str, int], ...] = ()
    """Fields of an Evaluation and their values for a whole copy; those that a layout does not give are not compared."""
    whole: tuple[tuple[str, int], ...] = ()  #: Further counts of the publication, e.g. pictures that are in no pair.
    family: str = ""  #: The name of several benchmarks whose people are groups, compared at one threshold: rfw

    def other_sizes(self, found: Evaluation) -> list[str]:
        """What a copy has another number of than the published one, in words."""
        sizes = {key: getattr(found, key) for key, _ in self.counts}
        return [f"{sizes[key]:,} {key} instead of {n:,}" for key, n in self.counts if sizes[key] not in (None, n)]


@dataclass(frozen=True)
class Found:
    """A benchmark that lies at `path`, not opened yet."""

    name: str  #: That of one of the protocol's `benchmarks`, or any other for unpublished data
    protocol: str  #: The protocol's name in PROTOCOLS
    path: Path
    layout: str = ""  #: Which layout, where the protocol has several
    own_folders: tuple[str, ...] = ()  #: Folders in `path` with its pictures: not searched for other benchmarks

    @property
    def benchmark(self) -> Benchmark | None:
        """The published benchmark that this is a copy of."""
        return next((one for one in PROTOCOLS[self.protocol].benchmarks if one.name == self.name), None)

    @property
    def family(self) -> str:
        """That of the published benchmark; empty where it has none."""
        return self.benchmark.family if self.benchmark else ""

    @property
    def title(self) -> str:
        """The published title, or the file's name."""
        return self.benchmark.title if self.benchmark else self.path.name

    def open(self, features: str = FEATURES[0], detector: str | None = None, most: int | None = None) -> "Protocol":
        """The benchmark, ready to embed. InputError, naming what is missing, for an incomplete one.

        `features` are IJB's; `detector` cuts the faces out of the pictures of a list: YuNet's file, or `yunet` for the
        pinned one; `most` is the number of pairs per person of a folder of people.
        """
        protocol = PROTOCOLS[self.protocol]
        return protocol.open(self, features, detector, **({"most": most} if self.layout == "people" else {}))

    def shortfall(self, found: Evaluation) -> str:
        """The sentence for a copy of another size than the published one; empty where all counts are right."""
        if not self.benchmark or not (wrong := self.benchmark.other_sizes(found)):
            return ""
        return f"{self.path} is not all of {self.title}: {', '.join(wrong)}; no published figure compares"


@dataclass(frozen=True)
class ScoredPairs:
    """The pairs that a model's scores are of, one a row."""

    scores: Floats  #: Cosine similarities, (pairs,)
    same: Bools
    fold: Counts  #: Which of the folds each pair belongs to
    names: Mapping[str, npt.NDArray[Any]]
    """What tells the pairs, each (pairs,): image_a and image_b, and person_a and person_b where they are known."""


class Protocol(abc.ABC):
    """A benchmark at hand: embeddings = embed(embedder, protocol.images()); protocol.score(embeddings).

    A protocol never loads a model. It travels by pickle to the processes that read its pictures. The first line of a
    subclass's docstring says what it measures; `find` tells where its benchmarks lie.
    """

    data: str  #: The benchmark's name, e.g. that of its file.
    data_sha256: str  #: What the benchmark's file or lists hash to
    lists_only: bool = False  #: Whether that is the hash of lists alone, which other pictures could lie under
    benchmarks: ClassVar[tuple[Benchmark, ...]] = ()  #: The published benchmarks of this protocol
    crowded: ClassVar[frozenset[str]] = frozenset()  #: Folders of many pictures: not searched for benchmarks

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """The benchmarks that lie in `folder` itself, which holds `folders` and `files`; not those further below."""
        return []

    @classmethod
    def open(cls, found: Found, features: str = FEATURES[0], detector: str | None = None) -> "Protocol":
        """A benchmark that `find` found; the options are those of `Found.open`."""
        return cls(found.path)  # type: ignore[call-arg]  # every subclass has an __init__ of its own

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many images there are to embed."""

    @abc.abstractmethod
    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found in it."""

    @abc.abstractmethod
    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures for raw embeddings (images, dim), which the protocol normalises as it defines.

        A row of zeros stands for a picture without a face. `compat` asks for the figures as other code computes them.
        """

    def images(self) -> Iterator[Image | None]:
        """The pictures in the order of the embeddings: RGB uint8 (H, W, 3), one at a time; None without a face."""
        for index in range(len(self)):
            yield self.image(index)

    def content_sha256(self) -> str:
        """The hash of the pictures and of whatever else the embeddings depend on, computed once."""
        if "_content" not in self.__dict__:
            self._content = self.hash_content()
        return self._content

    def hash_content(self) -> str:
        """What `content_sha256` returns; by default over the decoded pictures."""
        digest = hashlib.sha256()
        for image in self.images():
            digest.update(b"" if image is None else repr(image.shape).encode() + image.tobytes())
        return digest.hexdigest()

    def identity(self) -> str:
        """The hash that tells a benchmark's results from those on other pictures: of its lists and its pictures."""
        if not self.lists_only:
            return self.data_sha256
        return hashlib.sha256(f"{self.data_sha256}\0{self.content_sha256()}".encode()).hexdigest()

    def remarks(self) -> list[str]:
        """What is noticeable of the pictures, in sentences."""
        return []

    def scored_pairs(self, embeddings: npt.NDArray[np.floating]) -> ScoredPairs | None:
        """The scores from raw embeddings (images, dim); None for a protocol that has no pairs."""
        return None

    def side_by_side(self, embeddings: Sequence[npt.NDArray[np.floating]]) -> tuple["Protocol", Floats]:
        """This benchmark, and rows (images, dims) of it whose cosines are several models' `similarity.fused` ones."""
        return self, fused([unit_rows(one) for one in embeddings])


PROTOCOLS: Registry[type[Protocol]] = Registry("protocol")  #: Every protocol's class by its name


def check_embeddings(embeddings: npt.NDArray[np.floating], images: int, names: Sequence[object] | None = None) -> None:
    """InputError unless there is one finite embedding an image; `names` are those of the images."""
    if embeddings.ndim != 2 or len(embeddings) != images:
        raise InputError(f"expected one embedding for each of {images} images, found an array of {embeddings.shape}")
    metrics.refuse_non_finite(embeddings, names=names)


def check_compat(compat: str | None) -> None:
    """InputError for an unknown compatibility mode."""
    if compat is not None and compat not in COMPATS:
        raise InputError(f"expected the compatibility mode {' or '.join(COMPATS)}, found {compat!r}")


def hash_files(paths: Sequence[Path]) -> str:
    """One SHA-256 over the names and contents of a benchmark's lists."""
    return hashlib.sha256("".join(f"{path.name}\0{sha256(path)}\n" for path in paths).encode()).hexdigest()


def verification(
    similarities: Floats, same: Bools, who: PeoplePairs, fars: Sequence[float]
) -> tuple[dict[str, Any], dict[str, Estimate], SortedScores]:
    """What pairs of either kind have in common, from scores and truths (pairs,): fields of an Evaluation.

    Also AUC, EER and TARs in every draw of people or pairs, by label, and the sorted scores. TAR's intervals are those
    of the draws where people are known, else exact binomial.
    """
    scores = SortedScores.of(similarities, same)
    points = [metrics.tar_at_far(scores, far) for far in fars]
    auc, eer = metrics.auc(scores), metrics.eer(scores)
    measurable = [point for point in points if point.measurable]
    estimates = who.rates(similarities, same, auc, eer, {point.far_target: point.tar for point in measurable})
    told = [point.why_not for point in points if not point.measurable]
    if scores.negatives[0] == scores.negatives[-1] == scores.positives[0] == scores.positives[-1]:
        told.append(f"all scores are {scores.negatives[0]:g}: the model gives every picture the same embedding")
    missed = len(scores.positives) - int(scores.true_accepts(scores.negatives[-1]))
    fields: dict[str, Any] = {"pairs": len(same), "positives": len(scores.positives)}
    fields |= {"negatives": len(scores.negatives), "auc": auc, "auc_interval": estimates[AUC].interval}
    fields |= {"eer": eer, "eer_interval": estimates[EER].interval, "decidability": metrics.decidability(scores)}
    fields["tar_at_far"] = {point.far_target: point.tar for point in points}
    fields["operating_points"] = tuple(_point(point, estimates if who.known else {}) for point in measurable)
    fields |= {"not_measurable": tuple(told), "intervals": who.method}
    fields["figures"] = {"FNMR at zero FMR": missed / len(scores.positives)}
    return fields, estimates, scores


def _point(point: metrics.OperatingPoint, estimates: Mapping[str, Estimate]) -> Point:
    """A measurable point with its intervals; TAR's is exact binomial where `estimates` hold none."""
    drawn = estimates.get(f"TAR@FAR {point.far_target:g}")
    interval = drawn.interval if drawn else metrics.binomial_interval(point.true_accepts, point.positives)
    accepted = point.false_accepts, point.negatives
    far = point.false_accepts / point.negatives, metrics.binomial_interval(*accepted)
    return Point(point.far_target, point.threshold, point.tar, interval, *accepted, *far)


Searched = tuple[Identification, dict[str, Estimate]]  #: A search's rates, and the same in every draw of people


def identification(found: Search, ranks: tuple[int, ...], fpirs: tuple[float, ...]) -> Searched:
    """A search's ranks and, where probes without a mate allow it, its open-set rates."""
    mated, others = int(found.mated.sum()), int((~found.mated).sum())
    return rates_of(found.estimates(ranks, fpirs), (mated, others), ranks, fpirs if others else (), found.method)


def rates_of(
    found: dict[str, Estimate], probes: tuple[int, int], ranks: Sequence[int], fpirs: Sequence[float], how: str | None
) -> Searched:
    """The rates of estimates; `probes` are those with a mate and those without."""
    ranked = {n: found[f"rank {n}"] for n in ranks}
    rank = {n: one.value for n, one in ranked.items()}, {n: one.interval for n, one in ranked.items()}
    points = {fpir: found.get(f"TPIR@FPIR {fpir:g}") for fpir in fpirs}
    tpir = {fpir: one.value if one else float("nan") for fpir, one in points.items()}
    return Identification(*probes, *rank, tpir, {fpir: one.interval for fpir, one in points.items() if one}, how), found


class ClosedSet(Protocol):
    """A search at rank 1, 5, 20 in a gallery with all people; `paths` are the probes' pictures and the gallery's."""

    lists_only = True
    paths: list[Path]
    probe_ids: Indices  #: The person of each probe, (probes,)
    gallery_ids: Indices  #: (gallery,); −1 for a distractor
    cut: DetectorCut | None = None  #: What cuts the faces out of the pictures; None for aligned crops

    def __len__(self) -> int:
        return len(self.paths)

    def hash_content(self) -> str:
        return hash_files(self.paths)

    def parts(self) -> dict[str, Bools]:
        """Which probes are searched together, (probes,), by a name."""
        return {"": np.ones(len(self.probe_ids), bool)}

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        check_compat(compat)
        check_embeddings(embeddings, len(self), self.paths)
        units, probes = unit_rows(np.asarray(embeddings, np.float32)), len(self.probe_ids)
        gallery, found = units[probes:], {}
        for part, at in self.parts().items():
            found[part] = search(units[:probes][at], gallery, self.probe_ids[at], self.gallery_ids)
        searched = {part: identification(one, CLOSED_RANKS, ()) for part, one in found.items()}
        estimates = {f"{part} {label}".strip(): one for part, of in searched.items() for label, one in of[1].items()}
        cmc = {part: [one.rank(n) for n in range(1, 21)] for part, one in found.items()}
        strangers = int((self.gallery_ids < 0).sum())
        fields: dict[str, Any] = {"images": len(self), "people": len(np.unique(self.probe_ids)), "probes": probes}
        fields |= {"gallery": len(gallery) - strangers, "distractors": strangers}
        if (faceless := int(metrics.empty_rows(units).sum())) or self.cut:
            policy, cut = "a gallery picture or a probe without a face is never its person's", self.cut
            fields["failures"] = Failures(faceless, len(self), 0, policy, cut.description if cut else "")
        fields["identification"] = {part: one for part, (one, _) in searched.items()}
        fields["curves"] = Curves(cmc=cmc, estimates=estimates)
        return Evaluation(self.benchmarks[0].name, self.data, self.identity(), compat, **fields)
