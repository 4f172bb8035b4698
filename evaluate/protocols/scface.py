"""SCface: pictures of surveillance cameras at three distances, searched among mugshots."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.errors import InputError
from zoo.evaluate.metrics import Bools
from zoo.evaluate.protocols.base import FEATURES, PROTOCOLS, Benchmark, ClosedSet, Found, Protocol, hash_files
from zoo.faces.finder import DetectorCut
from zoo.formats.images import Image, read_image

DISTANCES = {"1": "4.20 m", "2": "2.60 m", "3": "1.00 m"}
COUNTS = (("probes", 1950), ("gallery", 130), ("people", 130))
CAMERA = re.compile(r"(\d{3})_cam([1-5])_([1-3])\.jpe?g", re.IGNORECASE)
MUGSHOT = re.compile(r"(\d{3})_frontal\.jpe?g", re.IGNORECASE)


@PROTOCOLS.register("scface")
class SCfaceProtocol(ClosedSet):
    """SCface: closed-set search of pictures of five cameras among frontal mugshots, by distance (rank 1, 5, 20).

    The daytime test of Grgic et al. (Multimedia Tools and Applications 51(3), 2011), with the files found by their
    names at any depth below `folder`. The pictures are taken as aligned crops; `cut` aligns the release's own ones. A
    mugshot or a probe without a face is never its person's. InputError where either kind of picture is missing.
    """

    benchmarks = (Benchmark("scface", "SCface", counts=COUNTS),)

    @classmethod
    def find(cls, folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
        """A folder of pictures of both kinds, or with the release's folders."""
        flat = all(any(map(kind.fullmatch, files)) for kind in (CAMERA, MUGSHOT))
        own = tuple(name for name in folders if name.startswith(("mugshot_", "surveillance_cameras_")))
        return [Found("scface", "scface", folder, own_folders=own)] if flat or own else []

    @classmethod
    def open(cls, found: Found, features: str = FEATURES[0], detector: str | None = None) -> Protocol:
        """The benchmark; `detector` cuts the faces out of the pictures."""
        return cls(found.path, DetectorCut(None if detector == "yunet" else detector) if detector else None)

    def __init__(self, folder: str | Path, cut: DetectorCut | None = None) -> None:
        self.cut, self.data = cut, "SCface"
        by_name = {path.name: path for path in sorted(Path(folder).rglob("*.jp*g"), reverse=True)}
        kinds = [[by_name[name] for name in sorted(by_name) if kind.fullmatch(name)] for kind in (CAMERA, MUGSHOT)]
        if not all(kinds):
            found = f"found {len(kinds[0]):,} and {len(kinds[1]):,}"
            raise InputError(f"expected 001_cam1_1.jpg … and 001_frontal.jpg … below {folder}, {found}")
        self.paths = kinds[0] + kinds[1]
        self.probe_ids, self.gallery_ids = (np.array([int(path.name[:3]) for path in kind], np.int64) for kind in kinds)
        self.data_sha256 = hash_files(self.paths)
        if lost := sorted({*self.probe_ids} - {*self.gallery_ids}):
            raise InputError(f"expected {lost[0]:03}_frontal.jpg below {folder}, as of everybody, found none")

    def image(self, index: int) -> Image | None:
        photo = read_image(self.paths[index])
        return photo if self.cut is None else self.cut(photo, self.paths[index])

    def hash_content(self) -> str:
        return self.data_sha256 + (self.cut.sha256() if self.cut else "")

    def remarks(self) -> list[str]:
        return ["everybody is searched for; figures published after fine-tuning on 50 people are of the other 80"]

    def parts(self) -> dict[str, Bools]:
        """The probes of each distance."""
        place = np.array([DISTANCES[path.stem[-1]] for path in self.paths[: len(self.probe_ids)]])
        return {distance: place == distance for distance in DISTANCES.values() if (place == distance).any()}
