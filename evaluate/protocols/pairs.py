"""Verification pairs: insightface's `.bin` files (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, XQLFW), and lists."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate import metrics
from zoo.evaluate.groups import groups_by_column
from zoo.evaluate.intervals import ACCURACY, PeoplePairs, pack
from zoo.evaluate.lists import Listed, read_csv, read_people, read_rfw
from zoo.evaluate.metrics import Bools, Floats, SortedScores
from zoo.evaluate.protocols import base
from zoo.evaluate.protocols.base import FEATURES, PROTOCOLS, Benchmark, Found, Protocol, ScoredPairs, hash_files
from zoo.evaluate.results import Curves, Evaluation, Failures, Hardest, Rejection
from zoo.faces.finder import Cut, DetectorCut
from zoo.files import sha256
from zoo.formats.bins import read_bin
from zoo.formats.images import Image, decode, read_image
from zoo.formats.pairs import is_pair_table, is_path_pairs, read_pair_table, read_pairs_beside, read_path_pairs

FARS = (0.1, 0.01, 0.001, 0.0001)  #: The false accept rates that are measured
RFW_GROUPS = {"African": (10415, 2995), "Asian": (9688, 2492), "Caucasian": (10196, 2959), "Indian": (10308, 2984)}
"""Images and people of each group (Wang et al., ICCV 2019, table 2)."""

MOST_UNEVEN = 0.1  #: By how much the share of pairs of one person in a fold may differ from that of all without a note
MOST_DEVIATIONS = 3  #: Nor beyond so many standard deviations of a random order
HARDEST = 8  #: How many of the hardest pairs of each kind are told
_NTH = ("first", "second")
LISTS = {"pairs.txt": "lfw", "lfw_pairs.txt": "lfw", "xqlfw_pairs.txt": "xqlfw"}  #: Lists in LFW's format


def _benchmark(name: str, title: str, pairs: int = 0, images: int = 0, people: int = 0, group: str = "") -> Benchmark:
    """Images and people are those of table 1 in Deng et al., CVPR 2019; of CFP-FF, of its data set; RFW has groups."""
    counts = tuple((what, count) for what, count in (("images", images), ("people", people)) if count)
    if group:
        files = (f"{group}_test.bin", f"rfw_{group}.bin", f"{group}.bin")
        return Benchmark(name, title, files, (("pairs", pairs), *counts), family="rfw")
    return Benchmark(name, title, (f"{name}.bin",), (("pairs", pairs),) if pairs else (), counts)


@PROTOCOLS.register("pairs")
class PairsProtocol(Protocol):
    """Same person or not, over pairs of faces: 10-fold accuracy, AUC, EER, TAR@FAR (LFW, CFP-FP, AgeDB-30, …).

    `images` are encoded pictures, paths, or RGB uint8 (2 · pairs, H, W, 3); those of pair i lie at 2i and 2i + 1.
    `same` is bool (pairs,). Pairs keep their order, from which folds are cut. A picture in several pairs is embedded
    once, so `len` counts distinct pictures; with `place` (2 · pairs,) `images` are distinct ones, and it tells those of
    each pair. `people` names the person on either side, (pairs,) each, where they are known: then intervals draw
    people, else pairs. `columns` (pairs,) tell groups of pairs apart. `cut` makes aligned crops of loose pictures; one
    without a face fails to enrol, and its pairs score −1, as no match.
    """

    benchmarks = (
        _benchmark("lfw", "LFW", 6000, 13233, 5749),
        _benchmark("cfp_fp", "CFP-FP", 7000, 7000, 500),
        _benchmark("cfp_ff", "CFP-FF", 7000, 7000, 500),
        _benchmark("vgg2_fp", "VGG2-FP"),  # nobody has published its numbers
        _benchmark("agedb_30", "AgeDB-30", 6000, 16488, 568),
        _benchmark("calfw", "CALFW", 6000, 12174, 5749),
        _benchmark("cplfw", "CPLFW", 6000, 11652, 5749),
        _benchmark("xqlfw", "XQLFW", 6000, 13233, 5749),
        *(_benchmark(f"rfw_{group.lower()}", f"RFW {group}", 6000, *of, group) for group, of in RFW_GROUPS.items()),
    )

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """Every .bin, .parquet and saved dataset, the lists of LFW and XQLFW, and the groups of RFW as handed out."""
        found = [cls.named(folder / name) for name in files if name.endswith((".bin", ".parquet")) or name in LISTS]
        if is_pair_table(folder, files):
            found.append(cls.named(folder))
        if {"data", "txts"} <= set(folders):
            inside = {path.name for part in ("data", "txts") for path in (folder / part).iterdir()}
            groups = [group for group in RFW_GROUPS if group in inside]
            found += [Found(f"rfw_{group.lower()}", "pairs", folder, "rfw", ("data", "txts")) for group in groups]
        return found

    @classmethod
    def named(cls, path: Path) -> Found:
        """What was named itself: a list, a table or a folder by its suffix and content, else a .bin."""
        if path.suffix == ".csv":
            return Found(path.stem, "pairs", path, "csv")
        if path.is_dir() or path.suffix == ".parquet":
            table = path.suffix == ".parquet" or is_pair_table(path, [entry.name for entry in path.iterdir()])
            known = {one.name for one in cls.benchmarks}
            name = next((name for name in (path.stem, path.parent.name) if name in known), path.name)
            return Found(name, "pairs", path, "table" if table else "people")
        if path.suffix == ".txt" and is_path_pairs(path):
            return Found(path.stem, "pairs", path, "paths")
        if path.suffix == ".txt":
            return Found(LISTS.get(path.name, path.stem), "pairs", path, "pairs.txt")
        published = (benchmark.name for benchmark in cls.benchmarks if path.name in benchmark.files)
        return Found(next(published, path.stem), "pairs", path, "bin")

    @classmethod
    def open(
        cls, found: Found, features: str = FEATURES[0], detector: str | None = None, most: int | None = None
    ) -> "PairsProtocol":
        """The benchmark; `detector` cuts a list's photos, `features` are not used; `most` as in `lists.read_people`."""
        cut: Cut | None = DetectorCut(None if detector == "yunet" else detector) if detector else None
        path, title = found.path, found.title
        if found.layout == "bin":
            return cls.from_bin(path, title)
        if found.layout == "table":
            images, same, stated = read_pair_table(path)
            files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
            columns = {name: np.array([str(value) for value in values]) for name, values in stated.items()}
            return cls(images, same, title, hash_files(files), columns=columns)
        if found.layout == "rfw":
            listed, landmarks = read_rfw(path, title.removeprefix("RFW "))
            return cls.from_list(listed, title, cut or landmarks)
        if found.layout == "people":
            return cls.from_list(read_people(path, most), title, cut)
        if found.layout == "csv":
            return cls.from_list(read_csv(path), title, cut)
        read = read_pairs_beside if found.layout == "pairs.txt" else read_path_pairs
        return cls.from_list(Listed.of(read(path), path), title, cut)

    def __init__(
        self,
        images: Sequence[bytes | Path] | npt.NDArray[np.uint8],
        same: npt.NDArray[np.bool_],
        data: str = "",
        data_sha256: str = "",
        people: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]] | None = None,
        cut: Cut | None = None,
        columns: Mapping[str, npt.NDArray[np.str_]] | None = None,
        place: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if place is not None:
            self._images: list[bytes | Path | Image] = list(images)
            self._place, self._first = place, list(range(len(images)))
        elif len(images) != 2 * len(same):
            raise InputError(f"expected two images a pair, found {len(images)} for {len(same)} pairs")
        else:
            self._images, self._place, self._first = _distinct(images)
        self.columns, self.same = columns or {}, np.asarray(same, bool)
        self.data, self.data_sha256 = data, data_sha256
        self.people, self.cut = people, cut
        self.lists_only = isinstance(next(iter(self._images), None), Path)
        self.stratified = False  #: Whether folds hold both kinds evenly, by a seeded draw, not in the file's order
        self.official = False  #: Whether a published definition has the folds: then they follow the file's order

    @classmethod
    def from_list(cls, listed: Listed, data: str, cut: Cut | None = None) -> "PairsProtocol":
        """The pairs of a list over folders of pictures."""
        pairs = cls(listed.pictures, listed.same, data, listed.sha256, listed.people, cut, listed.columns, listed.place)
        pairs.stratified = listed.place is not None  # pairs that nobody listed have no order
        return pairs

    @classmethod
    def from_bin(cls, path: str | Path, data: str = "") -> "PairsProtocol":
        """The pairs of a `.bin` file, decoded only when their turn comes. InputError for what is no such file."""
        return cls(*read_bin(path), data or Path(path).name, sha256(path))

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image | None:
        image = self._images[index]
        if isinstance(image, Path):
            photo = read_image(image)
            return photo if self.cut is None else self.cut(photo, image)
        if not isinstance(image, bytes):
            return image
        pair, side = divmod(self._first[index], 2)
        return decode(image, f"{self.data}, picture {self._first[index]} (the {_NTH[side]} of pair {pair})")

    def hash_content(self) -> str:
        """The hash of the pictures and of the cut, on which alone the embeddings depend."""
        digest = hashlib.sha256((self.cut.sha256() if self.cut else "").encode())
        for image in self._images:
            digest.update(bytes.fromhex(sha256(image)) if isinstance(image, Path) else _digest(image))
            digest.update(repr(image.shape).encode() if isinstance(image, np.ndarray) else b"")
        return digest.hexdigest()

    @cached_property
    def who(self) -> PeoplePairs:
        """The people of the pairs, or the pairs themselves where people are unknown."""
        return PeoplePairs.of(*self.people) if self.people else PeoplePairs.unknown(len(self.same))

    def cosines(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The pairs' scores (pairs,) in [−1, 1] from raw embeddings (images, dim); −1 with a picture that failed."""
        base.check_embeddings(embeddings, len(self), self._images if isinstance(self._images[0], Path) else None)
        units = metrics.unit(embeddings)
        left, right = units[self._place[0::2]], units[self._place[1::2]]
        cosines: npt.NDArray[np.float64] = np.clip(np.einsum("pd,pd->p", left, right), -1.0, 1.0)
        cosines[self._failed(embeddings)] = -1.0
        return cosines

    def scored_pairs(self, embeddings: npt.NDArray[np.floating]) -> ScoredPairs:
        """The scores; images are paths, or their places in the file."""
        files = [image if isinstance(image, Path) else None for image in self._images]
        named = np.array([str(file or at) for file, at in zip(files, self._first, strict=True)])[self._place]
        names = {"image_a": named[0::2], "image_b": named[1::2]}
        names |= dict(zip(("person_a", "person_b"), self.people or (), strict=False))
        folds, by_kind = min(10, len(self.same)), self.stratified and not self.official
        by_file = metrics.file_folds(len(self.same), folds)[0]
        fold = metrics.stratified_folds(self.same, folds) if by_kind else by_file
        return ScoredPairs(self.cosines(embeddings), self.same, fold, names)

    def _failed(self, embeddings: npt.NDArray[np.floating]) -> Bools:
        """Which pairs hold a picture without an embedding: bool (pairs,)."""
        failed = metrics.empty_rows(embeddings)[self._place]
        return np.asarray(failed[0::2] | failed[1::2])

    def remarks(self) -> list[str]:
        """Whether photos are taken for crops: whether the pictures of a list have another size than crops."""
        first = self.image(0) if self.people and self.cut is None and len(self) else None
        if first is None or first.shape[:2] == (112, 112):
            return []
        height, width = first.shape[:2]
        return [f"pictures of {height}×{width} are taken as aligned crops; --detector yunet finds the faces first"]

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures for raw embeddings (images, dim); `compat="insightface"` finds the accuracy as they do."""
        base.check_compat(compat)
        cosines = self.cosines(embeddings)
        fields, estimates, scores = base.verification(cosines, self.same, self.who, FARS)
        folds, by_kind = min(10, len(self.same)), self.stratified and not self.official and compat is None
        fold = metrics.stratified_folds(self.same, folds) if by_kind else None
        if compat is None:
            accuracy = metrics.kfold_accuracy(cosines, self.same, folds, fold)
        else:
            units = metrics.unit(embeddings)[self._place]
            distances = np.sum(np.square(units[0::2] - units[1::2]), axis=1)
            distances[self._failed(embeddings)] = 4.0
            accuracy = metrics.kfold_accuracy_insightface(distances, self.same, folds)
        interval = metrics.binomial_interval(int(accuracy.right.sum()), len(self.same))
        if self.who.known:
            estimates[ACCURACY] = self.who.share(accuracy.right, accuracy.mean)
            interval = estimates[ACCURACY].interval
        fields |= {"accuracy": accuracy.mean, "accuracy_std": accuracy.std, "accuracy_interval": interval}
        fields |= {"folds": folds, "fold_accuracies": tuple(accuracy.accuracies.tolist())}
        fields["fold_order"] = "in file order" if fold is None else "stratified, seed 0"
        fields["notes"] = self._unbalanced(folds) if fold is None else ()
        fields["fold_thresholds"] = tuple(accuracy.thresholds.tolist())
        fields["fold_thresholds_are"] = "squared L2 distances" if compat else "cosine similarities"
        fields |= {"images": len(self), "people": self.who.draws.people} if self.people else {}
        if (lost := int(metrics.empty_rows(embeddings).sum())) or self.cut:
            policy, cut = "their pairs are scored as no match", self.cut.description if self.cut else ""
            fields["failures"] = Failures(lost, len(self), int(self._failed(embeddings).sum()), policy, cut)
        fields["groups"] = groups_by_column(self.columns, cosines, self.same)
        order = np.argsort(cosines, kind="stable")
        alike, unlike = order[~self.same[order]][::-1][:HARDEST], order[self.same[order]][:HARDEST]
        hardest = Hardest(*([(int(pair), float(cosines[pair])) for pair in pairs] for pairs in (alike, unlike)))
        right, rejection = pack(accuracy.right), self._rejection(cosines, scores, embeddings)
        drawn = Curves.of(scores, right=right, estimates=estimates, hardest=hardest, rejection=rejection)
        return Evaluation("pairs", self.data, self.identity(), compat, curves=drawn, **fields)

    def _unbalanced(self, folds: int) -> tuple[str, ...]:
        """What a reader should know of folds in file order that hold the two kinds of pairs unevenly."""
        fold, sizes = metrics.file_folds(len(self.same), folds)
        shares, whole = np.bincount(fold, weights=self.same, minlength=folds) / sizes, self.same.mean()
        by_chance = MOST_DEVIATIONS * np.sqrt(whole * (1 - whole) / sizes)
        if (np.abs(shares - whole) <= np.maximum(MOST_UNEVEN, by_chance)).all():
            return ()
        uneven = f"the folds, cut in file order, hold from {shares.min():.0%} to {shares.max():.0%} pairs of one person"
        advice = "the accuracy depends on the order of the pairs; --folds stratified deals both kinds out evenly"
        return (f"{uneven}: {advice}",)

    def _rejection(self, cosines: Floats, scores: SortedScores, embeddings: Floats) -> Rejection | None:
        """How errors fall when the pairs of the lowest norms are rejected, at the threshold of FAR 0.01."""
        point = metrics.tar_at_far(scores, 0.01)
        norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)[self._place]
        quality = np.minimum(norms[0::2], norms[1::2])
        if not point.measurable or np.ptp(quality) < 1e-5 * quality.max():  # a model that normalises, or several fused
            return None
        shares = np.round(np.arange(0, 0.96, 0.05), 2)
        rates = metrics.error_versus_reject(cosines[self.same] <= point.threshold, quality[self.same], shares)
        return Rejection(0.01, shares.tolist(), rates.tolist())

    def pair_images(self, pair: int) -> tuple[Image, Image]:
        """Both pictures of a pair: RGB uint8 (H, W, 3), black where no face was found."""
        first, second = (self.image(int(self._place[2 * pair + side])) for side in (0, 1))
        black = np.zeros((112, 112, 3), np.uint8)
        return black if first is None else first, black if second is None else second


def _distinct(
    images: Sequence[bytes | Path] | npt.NDArray[np.uint8],
) -> tuple[list[bytes | Path | Image], npt.NDArray[np.int64], list[int]]:
    """The distinct pictures, the number of each one given, and where each comes first; paths are compared by name."""
    kept: list[bytes | Path | Image] = []
    seen: dict[object, int] = {}
    place = np.empty(len(images), np.int64)
    first = []
    for index, image in enumerate(images):
        key = image if isinstance(image, Path) else (_digest(image), getattr(image, "shape", None))
        place[index] = seen.setdefault(key, len(kept))
        if place[index] == len(kept):
            kept.append(image)
            first.append(index)
    return kept, place, first


def _digest(image: bytes | Image) -> bytes:
    return hashlib.sha256(image if isinstance(image, bytes) else np.ascontiguousarray(image).data).digest()
