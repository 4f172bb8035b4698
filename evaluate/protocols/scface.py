"""SCface: pictures of surveillance cameras at three distances, searched among mugshots."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.protocols import base
from zoo.evaluate.protocols.base import FEATURES, PROTOCOLS, Benchmark, Found, Protocol, hash_files
from zoo.evaluate.protocols.ijb import identification
from zoo.evaluate.results import Curves, Evaluation, Failures
from zoo.evaluate.similarity import search, unit_rows
from zoo.faces.finder import DetectorCut
from zoo.formats.images import Image, read_image

RANKS = (1, 5, 20)
DISTANCES = {"1": "4.20 m", "2": "2.60 m", "3": "1.00 m"}
COUNTS = (("probes", 1950), ("gallery", 130), ("people", 130))
CAMERA = re.compile(r"(\d{3})_cam([1-5])_([1-3])\.jpe?g", re.IGNORECASE)
MUGSHOT = re.compile(r"(\d{3})_frontal\.jpe?g", re.IGNORECASE)


@PROTOCOLS.register("scface")
class SCfaceProtocol(Protocol):
    """SCface: closed-set search of pictures of five cameras among frontal mugshots, by distance (rank 1, 5, 20).

    The daytime test of Grgic et al. (Multimedia Tools and Applications 51(3), 2011), with the files found by their
    names at any depth below `folder`. The pictures are taken as aligned crops; `cut` aligns the release's own ones. A
    mugshot or a probe without a face is never its person's. InputError where either kind of picture is missing.
    """

    benchmarks = (Benchmark("scface", "SCface", counts=COUNTS),)
    lists_only = True

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """A folder of pictures of both kinds, or with the release's folders."""
        flat = all(any(map(kind.fullmatch, files)) for kind in (CAMERA, MUGSHOT))
        own = tuple(name for name in folders if name.startswith(("mugshot_", "surveillance_cameras_")))
        return [Found("scface", "scface", folder, own_folders=own)] if flat or own else []

    @classmethod
    def open(cls, found: Found, features: str = FEATURES[0], detector: str | None = None) -> Protocol:
        """The benchmark; `detector` cuts the faces out of the pictures."""
        cut = DetectorCut(None if detector == "yunet" else detector) if detector else None
        return cls(found.path, cut)

    def __init__(self, folder: str | Path, cut: DetectorCut | None = None) -> None:
        self.cut, self.data = cut, "SCface"
        by_name = {path.name: path for path in sorted(Path(folder).rglob("*.jp*g"), reverse=True)}
        kinds = [[by_name[name] for name in sorted(by_name) if kind.fullmatch(name)] for kind in (CAMERA, MUGSHOT)]
        if not all(kinds):
            found = f"found {len(kinds[0]):,} and {len(kinds[1]):,}"
            raise InputError(f"expected 001_cam1_1.jpg … and 001_frontal.jpg … below {folder}, {found}")
        self.paths, self.probes = kinds[0] + kinds[1], len(kinds[0])
        self.ids = np.array([int(path.name[:3]) for path in self.paths], np.int64)
        self.data_sha256 = hash_files(self.paths)
        if lost := sorted({*self.ids[: self.probes]} - {*self.ids[self.probes :]}):
            raise InputError(f"expected {lost[0]:03}_frontal.jpg below {folder}, as of everybody, found none")

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image | None:
        """One picture: RGB uint8 (H, W, 3); None where no face was found to cut out."""
        photo = read_image(self.paths[index])
        return photo if self.cut is None else self.cut(photo, self.paths[index])

    def hash_content(self) -> str:
        """The hash of the pictures and of the cut."""
        return self.data_sha256 + (self.cut.sha256() if self.cut else "")

    def remarks(self) -> list[str]:
        """Whom the figures are of."""
        return ["everybody is searched for; figures published after fine-tuning on 50 people are of the other 80"]

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures for raw embeddings (images, dim)."""
        base.check_compat(compat)
        base.check_embeddings(embeddings, len(self), self.paths)
        units = unit_rows(np.asarray(embeddings, np.float32))
        people, gallery = self.ids[: self.probes], units[self.probes :]
        place = np.array([DISTANCES[path.stem[-1]] for path in self.paths[: self.probes]])
        every = {distance: place == distance for distance in DISTANCES.values() if (place == distance).any()}
        probes, mugshots = units[: self.probes], self.ids[self.probes :]
        found = {name: search(probes[at], gallery, people[at], mugshots) for name, at in every.items()}
        searched = {distance: identification(one, RANKS, ()) for distance, one in found.items()}
        faceless = int((~units.any(axis=1)).sum())
        policy = "a mugshot or a probe without a face is never its person's"
        cut = self.cut.description if self.cut else ""
        fields: dict[str, Any] = {"images": len(self), "probes": self.probes, "gallery": len(gallery)}
        fields["identification"] = {name: one for name, (one, _) in searched.items()}
        fields["failures"] = Failures(faceless, len(self), 0, policy, cut) if faceless or cut else None
        estimates = {f"{name} {label}": one for name, (_, of) in searched.items() for label, one in of.items()}
        cmc = {distance: [one.rank(n) for n in range(1, 21)] for distance, one in found.items()}
        fields |= {"people": len(np.unique(people)), "curves": Curves(cmc=cmc, estimates=estimates)}
        return Evaluation("scface", self.data, self.identity(), compat, **fields)
