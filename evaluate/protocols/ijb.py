"""IJB-B and IJB-C in the layout of insightface's release: templates of many pictures, 1:1 pairs and 1:N searches."""

import copy
import csv
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zoo.errors import InputError, explained
from zoo.evaluate import metrics
from zoo.evaluate.intervals import Estimate, PeoplePairs
from zoo.evaluate.protocols import base
from zoo.evaluate.protocols.base import FEATURES, PROTOCOLS, Benchmark, Found, Protocol, ScoredPairs, hash_files
from zoo.evaluate.results import Curves, Evaluation, Failures, RocPoints
from zoo.evaluate.similarity import Indices, Search, Vectors, fused, pair_scores, pool, search, unit_rows
from zoo.faces.finder import align_or_none
from zoo.formats.images import Image, read_image

FARS = (0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6)
RANKS = (1, 5, 10)
IJBB = (("images", 227630), ("templates", 12115), ("pairs", 8010270), ("people", 1845))
IJBC = (("images", 469375), ("templates", 23124), ("pairs", 15658489), ("people", 3531))
FPIRS = (0.1, 0.01)
MEAN, UNION = "mean", "union"  #: Beside the galleries: the mean of their rates, and both as one, as insightface has it


@PROTOCOLS.register("ijb")
class IJBProtocol(Protocol):
    """IJB-B and IJB-C: template pairs (TAR@FAR 1e-6 … 1e-1) and open-set searches of both galleries (rank, TPIR@FPIR).

    `folder` holds meta/ and loose_crop/. `norm` keeps an embedding's norm as a weight (N1) or drops it (N0);
    `detector_score` weighs by the detector's confidence (D1) or not (D0); F is the embedder's flip. InputError,
    naming the files, where the folder is incomplete or its files contradict each other.
    """

    benchmarks = (Benchmark("ijbb", "IJB-B", counts=IJBB), Benchmark("ijbc", "IJB-C", counts=IJBC))
    lists_only = True
    crowded = frozenset({"loose_crop"})

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """The releases whose lists lie in a folder meta/."""
        lists = [name for name in files if name[:5] in ("ijbb_", "ijbc_") and not name.endswith(".csv")]
        releases = sorted({name[:4] for name in lists}) if folder.name == "meta" else []
        return [Found(release, "ijb", folder.parent) for release in releases]

    @classmethod
    def open(cls, found: Found, features: str = FEATURES[0], detector: str | None = None) -> "IJBProtocol":
        """The benchmark with its templates pooled as `features` say; the landmarks are its own."""
        return cls(found.path, norm=features[1] == "1", detector_score=features[3] == "1")

    def __init__(self, folder: str | Path, norm: bool = True, detector_score: bool = True) -> None:
        self.folder = Path(folder)
        self.norm, self.detector_score = norm, detector_score
        self.widths: tuple[int, ...] = ()  #: The dimensions of several models side by side, whose scores are fused
        meta = self.folder / "meta"
        releases = sorted(path.name.split("_")[0] for path in meta.glob("ijb?_name_5pts_score.txt"))
        if len(releases) != 1:
            lists = f"meta/ijbb_name_5pts_score.txt or meta/ijbc_name_5pts_score.txt in {self.folder}"
            advice = "point at the folder IJBB or IJBC of insightface's release"
            raise InputError(f"expected {lists}, found {len(releases)} of them; {advice}")
        self.release = releases[0]
        self.data = {one.name: one.title for one in self.benchmarks}.get(self.release, self.release)
        parts = ("name_5pts_score", "face_tid_mid", "template_pair_label")
        points, members, pairs = files = [meta / f"{self.release}_{part}.txt" for part in parts]
        missing = [f"meta/{path.name}" for path in files if not path.is_file()]
        missing += [] if (self.folder / "loose_crop").is_dir() else ["loose_crop/"]
        if missing:
            raise InputError(f"expected a whole {self.data} in {self.folder}, missing there: {', '.join(missing)}")
        self.data_sha256 = hash_files([*files, *sorted(meta.glob(f"{self.release}_1N_*.csv"))])
        self.names, self.landmarks, self.confidence = _read_landmarks(points)
        self._read_memberships(members)
        self._read_pairs(pairs)
        on_disk = {path.name for path in (self.folder / "loose_crop").iterdir()}
        if absent := [name for name in self.names if name not in on_disk]:
            told = f"missing {len(absent):,} of them ({_few(absent)}); unpack the archive again"
            raise InputError(f"expected {len(self.names):,} pictures in {self.folder / 'loose_crop'}, {told}")

    def _read_memberships(self, path: Path) -> None:
        row_of = {name: row for row, name in enumerate(self.names)}
        lines = list(_lines(path, 3, int))
        if unknown := [name for name, _ in lines if name not in row_of]:
            missing = f"missing for {len(unknown):,} ({_few(unknown)}); use the files of one release"
            raise InputError(f"expected landmarks for every picture of {path.name}, {missing}")
        if not lines:
            raise InputError(f"expected lines (picture, template, medium) in {path}, found none")
        self.image_of = np.array([row_of[name] for name, _ in lines], np.int64)
        templates, self.media = np.array([numbers for _, numbers in lines], np.int64).T
        self.template_ids, self.template_of = np.unique(templates, return_inverse=True)

    def _read_pairs(self, path: Path) -> None:
        unread = f"expected whole numbers in {path}, found something else"
        with warnings.catch_warnings(), explained(unread, DeprecationWarning, ValueError):
            warnings.simplefilter("error", DeprecationWarning)  # numpy's word for text that is no number
            flat = np.fromfile(path, dtype=np.int64, sep=" ")
        if len(flat) % 3 or not len(flat):
            raise InputError(f"expected lines (template, template, 0 or 1) in {path}, found {len(flat)} numbers")
        table = flat.reshape(-1, 3)
        if not np.isin(table[:, 2], (0, 1)).all():
            raise InputError(f"expected 0 or 1 in the third column of {path}, found {table[:, 2].max()}")
        self.left, self.right = (self._template_rows(table[:, column], path) for column in (0, 1))
        self.same = table[:, 2] == 1

    def _template_rows(self, ids: Indices, path: Path) -> Indices:
        rows = np.minimum(np.searchsorted(self.template_ids, ids), len(self.template_ids) - 1)
        if len(unknown := np.unique(ids[self.template_ids[rows] != ids])):
            found = f"{len(unknown):,} without any ({_few([str(i) for i in unknown])}); use the files of one release"
            raise InputError(f"expected templates with pictures in {path.name}, found {found}")
        return rows

    def __len__(self) -> int:
        return len(self.names)

    @property
    def features(self) -> str:
        """How images are weighed, in insightface's letters without F, which is the embedder's."""
        return f"N{int(self.norm)}D{int(self.detector_score)}"

    @cached_property
    def galleries(self) -> dict[str, tuple[Indices, Indices]]:
        """Template rows and subjects of each gallery list and of the probes; empty where the lists are absent."""
        lists = sorted((self.folder / "meta").glob(f"{self.release}_1N_*.csv"))
        return {path.stem.rsplit("_", 1)[-1]: self._read_list(path) for path in lists}

    def _read_list(self, path: Path) -> tuple[Indices, Indices]:
        subject_of: dict[int, int] = {}
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if [name.strip().upper() for name in header[:2]] != ["TEMPLATE_ID", "SUBJECT_ID"]:
                raise InputError(f"expected the columns TEMPLATE_ID,SUBJECT_ID in {path}, found {','.join(header[:2])}")
            for number, row in enumerate(rows, 2):
                if len(row) < 2:
                    continue
                with explained(f"expected whole numbers in line {number} of {path}, found {row[:2]}", ValueError):
                    template, subject = int(row[0]), int(row[1])
                if subject_of.setdefault(template, subject) != subject:
                    raise InputError(f"expected one subject a template in {path}, found two for template {template}")
        if not subject_of:
            raise InputError(f"expected templates in {path}, found an empty list; fetch it again")
        templates = np.fromiter(subject_of, np.int64)
        return self._template_rows(templates, path), np.fromiter(subject_of.values(), np.int64)

    @cached_property
    def who(self) -> PeoplePairs:
        """The people of the pairs: the lists' subjects; for templates that no list names, their same-person pairs."""
        lists = [(np.empty(0, np.int64), np.empty(0, np.int64)), *self.galleries.values()]
        rows, subjects = (np.concatenate([entry[side] for entry in lists]) for side in (0, 1))
        _, subject = np.unique(subjects, return_inverse=True)
        templates = len(self.template_ids)
        left = np.concatenate([self.left[self.same], rows])
        right = np.concatenate([self.right[self.same], templates + subject])
        nodes = templates + len(subjects)
        linked = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
        _, person = connected_components(linked, directed=False)
        return PeoplePairs.of(person[self.left], person[self.right])

    def hash_content(self) -> str:
        points = self.folder / "meta" / f"{self.release}_name_5pts_score.txt"
        return hash_files([self.folder / "loose_crop" / name for name in self.names]) + hash_files([points])

    def image(self, index: int) -> Image | None:
        """One aligned picture: RGB uint8 (112, 112, 3); None where its landmarks all lie at one point: no face."""
        return align_or_none(read_image(self.folder / "loose_crop" / self.names[index]), self.landmarks[index])

    def templates(self, embeddings: npt.NDArray[np.floating]) -> Vectors:
        """Unit vectors of the templates, (templates, dim), from raw embeddings (images, dim).

        Pictures without an embedding are left out; a template that has no other is a row of zeros.
        """
        if self.widths:
            alone = copy.copy(self)
            alone.widths = ()
            return fused([alone.templates(own) for own in np.split(embeddings, np.cumsum(self.widths)[:-1], axis=1)])
        features = np.asarray(embeddings, np.float32)
        base.check_embeddings(features, len(self), self.names)
        if not self.norm:
            features = unit_rows(features)
        usable = ~metrics.empty_rows(features)[self.image_of]
        image_of, template_of, media = self.image_of, self.template_of, self.media
        if not usable.all():
            image_of, template_of, media = image_of[usable], template_of[usable], media[usable]
        weight = self.confidence[image_of] if self.detector_score else np.ones(len(image_of))
        if len(image_of) != len(features) or (image_of != np.arange(len(features))).any():
            features = features[image_of]
        return pool(features, template_of, media, weight, len(self.template_ids))

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures for raw embeddings (images, dim); `compat="insightface"` takes the nearest rate as they do."""
        base.check_compat(compat)
        templates = self.templates(embeddings)
        similarities = pair_scores(templates, self.left, self.right)
        fields, estimates, scores = base.verification(similarities, self.same, self.who, FARS)
        if compat == "insightface":
            fields["tar_at_far"] = dict(zip(FARS, metrics.tar_at_far_insightface(scores, FARS), strict=True))
        searches = self.searches(templates)
        searched = {name: base.identification(found, RANKS, FPIRS) for name, found in searches.items()}
        if len(galleries := [name for name in searched if name != UNION]) == 2:
            searched[MEAN] = mean_of(*(searched[name] for name in galleries))
        for name, (_, own) in searched.items():
            estimates |= {f"{name} {label}": estimate for label, estimate in own.items()}
        ours = "ranks and TPIR@FPIR are computed by this package's definitions: --compat changes TAR@FAR alone"
        cmc = {name: [found.rank(n) for n in range(1, 21)] for name, found in searches.items()}
        open_set = {name: RocPoints.of(one.open_set) for name, one in searches.items() if not one.mated.all()}
        fields |= {"features": self.features, "images": len(self), "templates": len(self.template_ids)}
        fields |= {"people": self.who.draws.people, "notes": (ours,) if compat and searched else ()}
        failed, empty = int(metrics.empty_rows(embeddings).sum()), metrics.empty_rows(templates)
        policy = "they are left out of their templates, and a template without any is scored as no match"
        counted = failed, len(self), int((empty[self.left] | empty[self.right]).sum())
        fields["failures"] = Failures(*counted, policy, "aligned by the benchmark's landmarks", int(empty.sum()))
        fields["identification"] = {name: found for name, (found, _) in searched.items()}
        fields["curves"] = Curves.of(scores, estimates=estimates, cmc=cmc, open_set=open_set)
        return Evaluation("ijb", self.data, self.identity(), compat, **fields)

    def scored_pairs(self, embeddings: npt.NDArray[np.floating]) -> ScoredPairs:
        """The scores of the template pairs; images are the templates' numbers, and people are numbered."""
        scores = pair_scores(self.templates(embeddings), self.left, self.right)
        names = {"image_a": self.template_ids[self.left], "image_b": self.template_ids[self.right]}
        names |= {"person_a": self.who.left, "person_b": self.who.right}
        folds = min(10, len(scores))
        return ScoredPairs(scores.astype(np.float64), self.same, metrics.stratified_folds(self.same, folds), names)

    def side_by_side(self, embeddings: Sequence[npt.NDArray[np.floating]]) -> tuple["IJBProtocol", Vectors]:
        """The benchmark for embeddings side by side: templates are pooled model by model before they are fused."""
        one = copy.copy(self)
        one.widths = tuple(rows.shape[1] for rows in embeddings)
        return one, np.hstack(embeddings).astype(np.float32, copy=False)

    def searches(self, templates: Vectors) -> dict[str, Search]:
        """The probes against each gallery by itself, and against both together; empty without the 1:N lists."""
        lists = dict(self.galleries)
        if "mixed" not in lists:
            return {}
        probes, probe_ids = lists.pop("mixed")
        if len(lists) == 2:
            (rows, ids), (others, other_ids) = lists.values()
            lists[UNION] = np.concatenate([rows, others]), np.concatenate([ids, other_ids])
        return {name: search(templates[probes], templates[rows], probe_ids, ids) for name, (rows, ids) in lists.items()}


def mean_of(first: base.Searched, second: base.Searched) -> base.Searched:
    """The mean rates of two galleries in which the same probes are searched, draw by draw."""
    (one, ones), (other, others) = first, second
    means = {}
    for label in (label for label in ones if label in others):
        a, b = ones[label], others[label]
        means[label] = Estimate((a.value + b.value) / 2, (a.replicates + b.replicates) / 2, a.people + b.people)
    probes = one.mated_probes + other.mated_probes, one.non_mated_probes + other.non_mated_probes
    return base.rates_of(means, probes, tuple(one.rank), tuple(one.tpir_at_fpir), one.intervals)


def _read_landmarks(path: Path) -> tuple[list[str], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    lines = list(_lines(path, 12, float))
    names, table = [name for name, _ in lines], np.array([numbers for _, numbers in lines]).reshape(-1, 11)
    if not np.isfinite(table).all():
        bad = names[int(np.argmin(np.isfinite(table).all(axis=1)))]
        raise InputError(f"expected finite landmarks in {path}, found none for {bad}")
    if len(set(names)) != len(names):
        raise InputError(f"expected each picture once in {path}, found {len(names) - len(set(names))} repetitions")
    return names, table[:, :10].reshape(-1, 5, 2), table[:, 10]


def _lines(path: Path, columns: int, kind: type[int] | type[float]) -> Iterator[tuple[str, list[float]]]:
    """The name and the numbers of each line, separated by blanks; InputError for one of another width or kind."""
    with open(path, encoding="utf-8") as file:
        for number, parts in enumerate(map(str.split, file), 1):
            if parts and len(parts) != columns:
                raise InputError(f"expected {columns} columns in line {number} of {path}, found {len(parts)}")
            try:
                numbers = [kind(part) for part in parts[1:]]
            except ValueError:
                wanted = f"a name and {columns - 1} numbers in line {number} of {path}"
                raise InputError(f"expected {wanted}, found {parts}") from None
            if parts:
                yield parts[0], numbers


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
