"""From a picture to the faces in it: read, found, chosen, aligned and measured, alike for every command."""

import copy
import functools
import hashlib
import os
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.align import align, template
from zoo.faces.detect import Face, FaceDetector, choose_face, load_detector
from zoo.faces.quality import Quality, measure
from zoo.formats.images import Image, decode, printable, read_file, resized, upright

Picture = Any
"""A picture: a path, a file's content as bytes, a file opened in binary mode, a PIL image, or RGB uint8 (H, W, 3)."""

FaceRule = Literal["largest", "central", "all"]  #: Which of several: the largest, the most central, or each

CROP_DEVIATION = 0.12
"""A picture of the crops' size counts as aligned while its landmarks lie this close to the template, by their mean
distance in heights; `benchmarks/verify.py --quality` prints where the crops of a benchmark lie."""

LYING = ("", "on its right side", "upside down", "on its left side")
"""How a photo lies that quarter turns counter-clockwise make upright."""

FINDER = 2  #: The version of the way in which faces are found and aligned; embeddings of two versions differ a little


class NoFace(InputError):
    """A picture in which no face was found."""


@dataclass(frozen=True)
class FaceCrop:
    """The face that was taken from one picture."""

    name: str  #: The picture's path, or what messages call it
    size: tuple[int, int]  #: The picture's (height, width) in pixels, upright
    crop: Image = field(compare=False, repr=False)  #: The aligned crop: RGB uint8 (height, width, 3)
    face: Face | None  #: Where it was found; None for a picture that was an aligned crop already
    faces: tuple[Face, ...]  #: Every face that was found in the picture; none for an aligned crop
    quality: Quality
    notes: tuple[str, ...] = ()  #: What limits the result, one sentence each

    def facts(self) -> dict[str, Any]:
        """Where the face is and how good it is, as JSON holds it."""
        face = self.face
        found = (list(face.box), face.landmarks.tolist(), face.score) if face else (None, None, None)
        return {**dict(zip(("box", "landmarks", "score"), found, strict=True)), "quality": asdict(self.quality)}


class FaceFinder:
    """Takes the faces out of pictures; threads may share it.

    `detector` is a path or an open FaceDetector; by default the pinned file of the Hugging Face Hub, which is loaded
    when the first photo needs it. `face` picks one of several faces or all, `size` is the crops' (height, width);
    `aligned` takes every picture as an aligned crop.
    """

    def __init__(
        self,
        detector: str | Path | FaceDetector | None = None,
        face: FaceRule = "largest",
        size: tuple[int, int] = (112, 112),
        aligned: bool = False,
    ) -> None:
        if face not in get_args(FaceRule):
            raise InputError(f"expected the face to be {', '.join(get_args(FaceRule))}, found {face!r}")
        self.face, self.size, self.aligned = face, size, aligned
        if detector is not None:
            self.detector = detector if isinstance(detector, FaceDetector) else load_detector(detector)

    @cached_property
    def detector(self) -> FaceDetector:
        """The face detector, loaded at the first use."""
        return load_detector()

    def taking(self, face: FaceRule) -> Self:
        """The same finder with another rule for pictures of several faces."""
        other = copy.copy(self)
        other.face = face
        return other

    def crop(self, picture: Picture, name: str | None = None) -> FaceCrop:
        """The face that `face` picks in `picture`, the largest of all; NoFace where there is none."""
        return (self.taking("largest") if self.face == "all" else self).crops(picture, name)[0]

    def crops(self, picture: Picture, name: str | None = None) -> list[FaceCrop]:
        """The faces that `face` picks: with "all" each, from left to right, else the one; NoFace where there is none.

        A picture of exactly the crops' size is taken as it is where its landmarks lie as in an aligned crop.
        """
        damage: list[str] = []
        image, name = read_picture(picture, name, damage)
        return [replace(one, notes=(*damage, *one.notes)) for one in self._crops(image, name)]

    def _crops(self, image: Image, name: str) -> list[FaceCrop]:
        if self.aligned:
            return [self._unchanged(image, name)]
        size = image.shape[:2]
        faces = self.detector.detect(image, thorough=self.face == "all")
        if not faces:
            advice = "use a photo with a larger face, or --aligned if it is an aligned crop"
            raise NoFace(f"expected a face in {name}, found none in its {size[1]}×{size[0]} pixels; {advice}")
        if size == self.size and deviation(choose_face(faces, size), size) <= CROP_DEVIATION:
            return [self._unchanged(image, name)]
        if self.face == "all":
            return [self._cut(image, name, face, faces) for face in sorted(faces, key=lambda face: face.centre[0])]
        face = choose_face(faces, size, self.face)
        x, y = face.centre
        rule = "the one nearest to the centre" if self.face == "central" else "the largest"
        note = f"{name} shows {len(faces)} faces: {rule} was taken, around ({x:.0f}, {y:.0f})"
        return [self._cut(image, name, face, faces, *([note] if len(faces) > 1 else []))]

    def _unchanged(self, image: Image, name: str) -> FaceCrop:
        (height, width), crop = image.shape[:2], resized(image, self.size)
        note = f"{name} is {width}×{height}, resized to {self.size[1]}×{self.size[0]}"
        return FaceCrop(name, (height, width), crop, None, (), measure(crop), () if crop is image else (note,))

    def _cut(self, image: Image, name: str, face: Face, faces: list[Face], *notes: str) -> FaceCrop:
        face = self.detector.refine(image, face)
        crop = align(image, face.landmarks, self.size)
        quality = measure(crop, face.landmarks, image.shape[:2])
        lies = () if not face.turns else (f"{name} lies {LYING[face.turns]}: its faces were turned upright",)
        warnings = [f"the face in {name} is {warning}" for warning in quality.warnings()]
        return FaceCrop(name, image.shape[:2], crop, face, tuple(faces), quality, (*lies, *notes, *warnings))


def read_picture(picture: Picture, name: str | None = None, damage: list[str] | None = None) -> tuple[Image, str]:
    """The upright picture, RGB uint8 (H, W, 3), and what messages call it; InputError for anything else.

    `damage` collects a sentence for a damaged file that could be read nevertheless.
    """
    if isinstance(picture, str) and re.match("[a-z][a-z0-9+.-]+://", picture, re.IGNORECASE):
        told = "no picture is fetched from the network; download it"
        raise InputError(f"expected a file, found the URL {picture}: {told}")
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        name = name or printable(path)
        return decode(read_file(path), name, damage=damage), name
    name = name or "the picture"
    content = picture.read() if hasattr(picture, "read") else picture
    if isinstance(content, bytes | bytearray | memoryview):
        return decode(bytes(content), name, damage=damage), name
    if hasattr(picture, "getexif"):
        return upright(picture), name
    array = isinstance(picture, np.ndarray)
    if array and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
        return picture, name
    found = f"{picture.dtype} of shape {picture.shape}" if array else type(content).__name__
    kinds = "a path, bytes, a file opened in binary mode, a PIL image or RGB uint8 of shape (H, W, 3)"
    raise InputError(f"expected {name} as {kinds}, found {found}")


def deviation(face: Face, size: tuple[int, int]) -> float:
    """The mean distance of a face's landmarks from the template, in heights of the crop."""
    return float(np.linalg.norm(face.landmarks - template(size), axis=1).mean() / size[0])


CROP = (112, 112)  #: (height, width) of an aligned crop; a picture of this size is one


def align_or_none(picture: Image, landmarks: npt.NDArray[np.float64]) -> Image | None:
    """The crop by five landmarks (5, 2); None where they all lie at one point, as detectors write for no face."""
    return None if (landmarks == landmarks[0]).all() else align(picture, landmarks, CROP)


@dataclass(frozen=True)
class LandmarkCut:
    """Alignment by the landmarks that come with a benchmark."""

    landmarks: dict[str, tuple[float, ...]]  #: Five (x, y) as ten numbers, by the picture's file name
    description: str = "aligned by the benchmark's landmarks"

    def __call__(self, picture: Image, path: Path) -> Image | None:
        if picture.shape[:2] == CROP:
            return picture
        if path.name not in self.landmarks:
            told = "found none; download the lists again"
            raise InputError(f"expected landmarks for {path}, which is not an aligned crop, {told}")
        return align_or_none(picture, np.array(self.landmarks[path.name]).reshape(5, 2))

    def sha256(self) -> str:
        return hashlib.sha256(repr(sorted(self.landmarks.items())).encode()).hexdigest()


@dataclass(frozen=True)
class DetectorCut:
    """Alignment by a face detector. The face nearest to the centre is taken, where benchmarks show their person."""

    path: str | None  #: YuNet's file; None: the pinned one of the Hub

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


Cut = LandmarkCut | DetectorCut
"""How a loose picture becomes an aligned crop: RGB uint8 (112, 112, 3), or None where no face was found.

`description` is the method in words, as reports and stored thresholds state it; `sha256()` hashes everything but the
pictures that the crops depend on.
"""


@functools.lru_cache(maxsize=2)
def _finder(path: str | None) -> FaceFinder:
    return FaceFinder(path, "central", CROP)
