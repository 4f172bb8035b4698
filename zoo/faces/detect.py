"""Faces in photos: YuNet through OpenCV, and the rule by which one of several faces is taken."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.messages import log

Rule = Literal["largest", "central"]
"""How one of several faces is chosen: by its box's area, or by its distance from the picture's centre."""

HUB_REPO = "opencv/face_detection_yunet"
HUB_FILE = "face_detection_yunet_2023mar.onnx"
HUB_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

WORKING_SIDE = 640
"""The longer side in pixels at which a photo is searched first: the face of interest is mostly large."""
SMALL_SIDE, LARGE_SIDE = 320, 1280
"""The longer sides of the second pass: the smaller finds faces that fill the picture, the larger finds small faces."""
IDEAL_WIDTH = 96
"""The width in working pixels at which YuNet places landmarks best. A face found in two passes is taken from the one
that came nearest to it; beyond three times this width, landmarks become unreliable."""
MAXIMAL_ENLARGEMENT = 2.0
"""Small pictures are not enlarged more than this: interpolation adds no detail."""


@dataclass(frozen=True)
class Face:
    """One face in a photo, in the photo's pixels."""

    box: tuple[float, float, float, float]
    """(left, top, width, height)."""
    landmarks: npt.NDArray[np.float64]
    """(5, 2) as (x, y): eyes, nose's tip, mouth's corners, each pair from the picture's left to its right."""
    score: float
    """The detector's confidence in [0, 1]."""

    @property
    def area(self) -> float:
        """The box's area in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> tuple[float, float]:
        """The box's centre (x, y)."""
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2


def choose_face(faces: Sequence[Face], size: tuple[int, int], rule: Rule = "largest") -> Face:
    """The face that `rule` picks among `faces`, at least one, in a photo of `size` (height, width)."""
    if rule not in get_args(Rule):
        raise InputError(f"expected the face to be {' or '.join(get_args(Rule))}, found {rule!r}")
    if rule == "largest":
        return max(faces, key=lambda face: (face.area, face.score))
    height, width = size
    return min(faces, key=lambda face: np.hypot(face.centre[0] - width / 2, face.centre[1] - height / 2))


class FaceDetector:
    """YuNet (Wu et al., Machine Intelligence Research 20, 2023). One detector may serve several threads."""

    def __init__(self, content: bytes, name: str, score_threshold: float = 0.6) -> None:
        """`content` is YuNet's ONNX file and `name` what messages call it; InputError for any other content."""
        self.name = name
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._content = np.frombuffer(content, np.uint8)
        self._score_threshold = score_threshold
        self._idle: list[cv2.FaceDetectorYN] = []  # a detector has state: each serves one pass at a time
        try:
            self._pass(np.zeros((32, 32, 3), np.uint8), 32)
        except cv2.error:
            raise InputError(
                f"expected YuNet's ONNX file as the detector, found something else in {name};"
                f" {HUB_FILE} of {HUB_REPO} on the Hugging Face Hub is one"
            ) from None

    def detect(self, image: npt.NDArray[np.uint8], thorough: bool = False) -> list[Face]:
        """The faces of an RGB uint8 photo (H, W, 3), highest score first.

        One pass at WORKING_SIDE is enough for a portrait. Where it finds nothing, or with `thorough`, the photo is
        also searched at SMALL_SIDE and LARGE_SIDE; where a face is very large, at SMALL_SIDE.
        """
        found = self._pass(image, WORKING_SIDE)
        if thorough or not found or max(width for width, _ in found) > 3 * IDEAL_WIDTH:
            found += self._pass(image, SMALL_SIDE)
        if thorough or not found:
            found += self._pass(image, LARGE_SIDE)
        return sorted(_without_duplicates(found), key=lambda face: -face.score)

    def _pass(self, image: npt.NDArray[np.uint8], side: int) -> list[tuple[float, Face]]:
        """Each face found at one working size, with its width in working pixels."""
        height, width = image.shape[:2]
        scale = min(side / max(height, width), MAXIMAL_ENLARGEMENT)
        working = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = cv2.resize(image, working, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        yunet = self._borrowed()
        yunet.setInputSize(working)
        _, rows = yunet.detect(cv2.cvtColor(resized, cv2.COLOR_RGB2BGR))
        self._idle.append(yunet)
        if rows is None:
            return []
        factor = np.array([width / working[0], height / working[1]])
        found = []
        for row in np.asarray(rows, dtype=np.float64):
            if not (np.isfinite(row).all() and (row[2:4] > 0).all()):
                continue
            corner, extent = row[0:2] * factor, row[2:4] * factor
            landmarks = (row[4:14].reshape(5, 2) + 0.5) * factor - 0.5  # pixel centres, as cv2.resize maps them
            box = (float(corner[0]), float(corner[1]), float(extent[0]), float(extent[1]))
            found.append((float(row[2]), Face(box, landmarks, float(row[14]))))
        return found

    def _borrowed(self) -> cv2.FaceDetectorYN:
        """An idle detector, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            with _quiet_opencv():
                return cv2.FaceDetectorYN.create(
                    "onnx", self._content, np.zeros(0, np.uint8), (320, 320), self._score_threshold, 0.3, 5000
                )


def load_detector(path: str | Path | None = None) -> FaceDetector:
    """YuNet from `path`, or the pinned file of the Hugging Face Hub, downloaded once into the Hub's cache.

    InputError where the file is missing, is something else, or cannot be downloaded.
    """
    if path is not None:
        return FaceDetector(_read(Path(path)), Path(path).name)
    file = _cached() or _fetched()
    content = _read(file)
    found = hashlib.sha256(content).hexdigest()
    if found != HUB_SHA256:
        raise InputError(
            f"expected {HUB_FILE} with SHA-256 {HUB_SHA256}, found {found};"
            f" delete {file} and try again, or pass a file that you trust with --detector PATH"
        )
    return FaceDetector(content, HUB_FILE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"expected YuNet's ONNX file as the detector, cannot read {path} ({error.strerror})") from None


def _cached() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(HUB_REPO, HUB_FILE)
    return Path(file) if isinstance(file, str) else None


def _fetched() -> Path:
    import logging

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    log.info("downloading the face detector %s of %s, once", HUB_FILE, HUB_REPO)
    chatter = logging.getLogger("huggingface_hub")  # it logs every retry; one sentence is enough
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(HUB_REPO, HUB_FILE, token=False))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"finding faces needs the detector {HUB_FILE} of {HUB_REPO}, which is not on this machine and cannot"
            f" be downloaded ({type(error).__name__}): download it elsewhere and pass it with --detector PATH,"
            " or give aligned crops with --aligned"
        ) from None
    finally:
        chatter.setLevel(level)


def _without_duplicates(found: Sequence[tuple[float, Face]], overlap: float = 0.4) -> list[Face]:
    """The faces, each from the pass that saw it nearest to IDEAL_WIDTH; `found` are (width in working pixels, face).

    A face is dropped where its box and that of a face that is kept overlap, as intersection over union, by more.
    """
    nearness = [min(width / IDEAL_WIDTH, IDEAL_WIDTH / width) for width, _ in found]
    kept = cv2.dnn.NMSBoxes([face.box for _, face in found], nearness, 0.0, overlap)
    return [found[int(place)][1] for place in kept]


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Suppresses what OpenCV 5 prints on stderr for every network about one of its own settings."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
