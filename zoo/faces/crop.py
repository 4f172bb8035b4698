"""From a loose picture to an aligned crop, by given landmarks or by a face detector."""

import functools
import hashlib
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.align import align
from zoo.faces.finder import FaceFinder, NoFace
from zoo.formats.images import Image

CROP = (112, 112)
"""(height, width) of an aligned crop; a picture of this size is one."""


class Cut(typing.Protocol):
    """How a loose picture becomes an aligned crop; picklable."""

    @property
    def description(self) -> str:
        """The method in words, as reports and stored thresholds state it."""
        ...

    def __call__(self, picture: Image, path: Path) -> Image | None:
        """The crop: RGB uint8 (112, 112, 3); None where no face was found."""
        ...

    def sha256(self) -> str:
        """The hash of everything but the pictures that the crops depend on."""
        ...


def align_or_none(picture: Image, landmarks: npt.NDArray[np.float64]) -> Image | None:
    """The crop by five landmarks (5, 2); None where they all lie at one point, as detectors write for no face."""
    if (landmarks == landmarks[0]).all():
        return None
    return align(picture, landmarks, CROP)


@dataclass(frozen=True)
class LandmarkCut:
    """Alignment by the landmarks that come with a benchmark."""

    landmarks: dict[str, tuple[float, ...]]
    """Five (x, y) as ten numbers, by the picture's file name."""
    description: str = "aligned by the benchmark's landmarks"

    def __call__(self, picture: Image, path: Path) -> Image | None:
        if picture.shape[:2] == CROP:
            return picture
        found = self.landmarks.get(path.name)
        if found is None:
            raise InputError(
                f"expected landmarks for {path}, which is not an aligned crop, found none; download the lists again"
            )
        return align_or_none(picture, np.array(found).reshape(5, 2))

    def sha256(self) -> str:
        return hashlib.sha256(repr(sorted(self.landmarks.items())).encode()).hexdigest()


@dataclass(frozen=True)
class DetectorCut:
    """Alignment by a face detector. The face nearest to the centre is taken, where benchmarks show their person."""

    path: str | None
    """YuNet's file; None: the pinned one of the Hub."""

    @property
    def description(self) -> str:
        detector = _finder(self.path).detector
        return f"aligned by {detector.name} {detector.sha256[:12]}, the face nearest the centre"

    def __call__(self, picture: Image, path: Path) -> Image | None:
        try:
            return _finder(self.path).crop(picture).crop
        except NoFace:
            return None

    def sha256(self) -> str:
        return _finder(self.path).detector.sha256


@functools.lru_cache(maxsize=2)
def _finder(path: str | None) -> FaceFinder:
    return FaceFinder(path, "central", CROP)
