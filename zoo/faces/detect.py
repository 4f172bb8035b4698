"""Faces in photos: YuNet through OpenCV, and the rule by which one of several faces is taken."""

import hashlib
import queue
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.files import cache_folder, write_bytes
from zoo.formats.images import Image
from zoo.machine import cores
from zoo.messages import log

Points = npt.NDArray[np.float64]

Rule = Literal["largest", "central"]  #: Which of several faces: by its box's area, or its distance from the centre

HUB_REPO = "opencv/face_detection_yunet"
HUB_FILE = "face_detection_yunet_2023mar.onnx"
HUB_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
MEASURED = {HUB_SHA256, "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"}
"""The files that LOOK_WIDTH is right for: the pinned one, and face_detection_yunet_2026may.onnx, on which it was
measured: an export of the pinned one's weights for any size of the input, as OpenCV Zoo's README states."""

SCORE = 0.6  #: A face with a lower score is none
WORKING_SIDE = 640  #: The longer side in pixels at which a photo is searched first: faces are mostly large
SMALL_SIDE, LARGE_SIDE = 320, 1280  #: Those of the second pass: for faces that fill the picture, and for small ones
LARGE_FACE = 288  #: A face this wide in working pixels may be part of a larger one
MAXIMAL_ENLARGEMENT = 2.0  #: Small pictures are not enlarged more than this: interpolation adds no detail
OVERLAP = 0.4  #: Of two boxes that overlap by more (intersection over union), the one of the higher score counts
SMALL_FACE = 40  #: Narrower faces, in pixels of the photo, are not looked at again
LOOK_SIDE, LOOK_WIDTH = 256, 200
"""The side of the cut-out in which a face is looked at again, and the face's width in it, both in pixels. YuNet places
landmarks worse in faces of some 100 pixels and of more than 300; measured on face_detection_yunet_2026may.onnx by
`benchmarks/verify.py --landmarks`, which measures any other file."""
LOOKS = 2  #: How often. The second halves what is left of the photo's influence.
BOX_SIDE = 2.06  #: A box's width by the larger distance, between the eyes or from eyes to mouth; a median of photos
SURE = 0.915  #: A face with a lower score may lie on its side: upright ones mostly score more, turned ones never did
MARGIN = 0.02  #: By how much the score of a turned photo must be higher


@dataclass(frozen=True)
class Face:
    """One face in a photo, in the photo's pixels."""

    box: tuple[float, float, float, float]  #: (left, top, width, height)
    landmarks: Points = field(compare=False, repr=False)
    """(5, 2) as (x, y): eyes, nose's tip, mouth's corners, each pair from the picture's left to its right."""
    score: float  #: The detector's confidence in [0, 1]
    turns: int = 0  #: The quarter turns, counter-clockwise, after which the face is upright

    @property
    def centre(self) -> tuple[float, float]:
        """The box's centre (x, y)."""
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2


def choose_face(faces: Sequence[Face], size: tuple[int, int], rule: Rule = "largest") -> Face:
    """The face that `rule` picks among `faces`, at least one, in a photo of `size` (height, width)."""
    if rule not in get_args(Rule):
        raise InputError(f"expected the face to be {' or '.join(get_args(Rule))}, found {rule!r}")
    if rule == "largest":
        return max(faces, key=lambda face: (face.box[2] * face.box[3], face.score))
    height, width = size
    return min(faces, key=lambda face: np.hypot(face.centre[0] - width / 2, face.centre[1] - height / 2))


class FaceDetector:
    """YuNet (Wu et al., Machine Intelligence Research 20, 2023). One detector may serve several threads."""

    def __init__(self, content: bytes, name: str) -> None:
        """`content` is YuNet's ONNX file and `name` what messages call it; InputError for any other content."""
        self.content, self.name, self.sha256 = content, name, hashlib.sha256(content).hexdigest()
        # a detector has state, so each serves one pass at a time, and keeps the memory of its largest photo
        self._idle = queue.LifoQueue[cv2.FaceDetectorYN | None]()  # None is opened when it is needed
        for _ in range(cores(threads=False)):
            self._idle.put(None)
        try:
            self._run(np.zeros((32, 32, 3), np.uint8), 1.0)
        except cv2.error:
            found = f"found something else in {name}; {HUB_FILE} of {HUB_REPO} on the Hugging Face Hub is one"
            raise InputError(f"expected YuNet's ONNX file as the detector, {found}") from None

    def __reduce__(self) -> tuple[type["FaceDetector"], tuple[bytes, str]]:
        return FaceDetector, (self.content, self.name)

    def detect(self, image: Image, thorough: bool = False) -> list[Face]:
        """The faces of an RGB uint8 photo (H, W, 3), highest score first, upright or after quarter turns of the photo.

        One pass at WORKING_SIDE is enough for a portrait. Where it finds nothing, or with `thorough`, the photo is
        also searched at SMALL_SIDE and LARGE_SIDE; where a face is very large, at SMALL_SIDE. Where the largest face's
        score is low, the turned photo is tried.
        """
        faces = self._search(image, thorough)
        if faces and (largest := choose_face(faces, image.shape[:2])).score >= SURE:
            return faces
        if faces:
            scores = [self._look(image, largest, turns)[1] for turns in range(4)]
            turns = int(np.argmax(scores))
            if not turns or scores[turns] < max(scores[0], largest.score) + MARGIN:
                return faces
            return self._turned(image, turns, thorough) or faces
        found = [self._turned(image, turns, thorough) for turns in (1, 2, 3)]
        return max(found, key=lambda faces: faces[0].score if faces else 0)

    def refine(self, image: Image, face: Face) -> Face:
        """A face of `detect` with landmarks that do not depend on how large the photo around it is.

        It is looked at again where it is LOOK_WIDTH pixels wide: by its box, which depends on the photo a little, and
        then by its landmarks. Small faces stay as they are: enlarged, they are placed worse.
        """
        found = face
        for _ in range(LOOKS if face.box[2] >= SMALL_FACE else 0):
            landmarks, _ = self._look(image, found, face.turns)
            if landmarks is None:
                break
            left, right, _, *corners = landmarks
            eyes, mouth = (left + right) / 2, (corners[0] + corners[1]) / 2
            side = BOX_SIDE * max(float(np.hypot(*(right - left))), float(np.hypot(*(mouth - eyes))))
            x, y = ((eyes + mouth - side) / 2).tolist()
            found = replace(found, landmarks=landmarks, box=(x, y, side, side))
        return replace(found, box=face.box)

    def _search(self, image: Image, thorough: bool) -> list[Face]:
        """The faces of the passes, highest score first; a thorough search only adds faces to those of a quick one."""
        found = self._pass(image, WORKING_SIDE)
        small = not found or max(face.box[2] for face in found) > LARGE_FACE * max(image.shape[:2]) / WORKING_SIDE
        found = _distinct([], found + (self._pass(image, SMALL_SIDE) if small else []))
        if thorough or not found:
            found = _distinct(found, self._pass(image, LARGE_SIDE) + ([] if small else self._pass(image, SMALL_SIDE)))
        return found

    def _turned(self, image: Image, turns: int, thorough: bool) -> list[Face]:
        """The faces of the photo after quarter turns, in the pixels of the photo as it is."""
        size, back = image.shape[:2], []
        for face in self._search(np.ascontiguousarray(np.rot90(image, turns)), thorough):
            left, top, width, height = face.box
            corners = turned_back(np.array([[left, top], [left + width, top + height]]) - 0.5, turns, size) + 0.5
            (x, y), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            box, landmarks = (x, y, right - x, bottom - y), turned_back(face.landmarks, turns, size)
            back.append(Face(box, landmarks, face.score, turns))
        return back

    def _look(self, image: Image, face: Face, turns: int) -> tuple[Points | None, float]:
        """A face's landmarks and score in a cut-out around it, after quarter turns; None where it is not seen."""
        side = max(1, round(face.box[2 + face.turns % 2] * LOOK_SIDE / LOOK_WIDTH))
        left, top = (round(centre - side / 2) for centre in face.centre)
        square = np.zeros((side, side, 3), np.uint8)
        inside = image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        square[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]] = inside
        view = np.rot90(_scaled(square, (LOOK_SIDE, LOOK_SIDE)), turns)
        found = self._run(np.ascontiguousarray(view), 0.3)
        if not len(found):
            return None, 0.0
        row = found[int(np.linalg.norm(found[:, :2] + found[:, 2:4] / 2 - LOOK_SIDE / 2, axis=1).argmin())]
        points = turned_back(row[4:14].reshape(5, 2), turns, (LOOK_SIDE, LOOK_SIDE))
        return (points + 0.5) * (side / LOOK_SIDE) - 0.5 + (left, top), float(row[14])

    def _pass(self, image: Image, side: int) -> list[Face]:
        height, width = image.shape[:2]
        scale = min(side / max(height, width), MAXIMAL_ENLARGEMENT)
        working = (max(1, round(height * scale)), max(1, round(width * scale)))
        x, y = width / working[1], height / working[0]
        # landmarks are pixels' centres, as cv2.resize maps them
        rows = self._run(_scaled(image, working), SCORE)
        boxes, points = rows[:, :4] * (x, y, x, y), (rows[:, 4:14].reshape(-1, 5, 2) + 0.5) * (x, y) - 0.5
        found = zip(boxes.tolist(), points, rows[:, 14].tolist(), strict=True)
        return [Face((left, top, w, h), landmarks, score) for (left, top, w, h), landmarks, score in found]

    def _run(self, image: Image, score: float) -> Points:
        """YuNet's rows of at least a score: box, landmarks and score, (faces, 15)."""
        yunet = self._idle.get()
        try:
            yunet = yunet or self._opened()
            yunet.setInputSize(image.shape[1::-1])
            yunet.setScoreThreshold(score)
            _, rows = yunet.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        finally:
            self._idle.put(yunet)
        found = np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
        return found[np.isfinite(found).all(axis=1) & (found[:, 2:4] > 0).all(axis=1)]

    def _opened(self) -> cv2.FaceDetectorYN:
        level, content = cv2.utils.logging.getLogLevel(), np.frombuffer(self.content, np.uint8)
        # OpenCV 5 prints a line on stderr for every network about one of its own settings
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            return cv2.FaceDetectorYN.create("onnx", content, np.zeros(0, np.uint8), (320, 320), SCORE, 0.3, 5000)
        finally:
            cv2.utils.logging.setLogLevel(level)


def load_detector(path: str | Path | None = None) -> FaceDetector:
    """YuNet from `path`, or the Hub's pinned file, downloaded once; InputError where it is missing or another file."""
    if path is not None:
        given = FaceDetector(_read(Path(path)), Path(path).name)
        if given.sha256 not in MEASURED:
            told = "landmarks are looked for in faces %d pixels wide, which was measured on other detectors than %s: %s"
            log.warning(told, LOOK_WIDTH, given.name, "`benchmarks/verify.py --landmarks` measures it")
        return given
    kept = cache_folder("detectors") / HUB_FILE
    content = _read(kept) if kept.is_file() else _from_the_hub()
    if (found := hashlib.sha256(content).hexdigest()) != HUB_SHA256:
        advice = f"delete the file (looked for at {kept}, then in the Hub's cache), or pass one with --detector PATH"
        raise InputError(f"expected {HUB_FILE} of {HUB_REPO} with SHA-256 {HUB_SHA256}, found {found}; {advice}")
    if not kept.is_file():
        with explained(f"cannot keep the detector in {kept.parent}", OSError, advice="set ZOO_CACHE to another folder"):
            kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, content)
    return FaceDetector(content, HUB_FILE)


def _read(path: Path) -> bytes:
    with explained(f"expected YuNet's ONNX file as the detector, cannot read {path}", OSError):
        return path.read_bytes()


def _from_the_hub() -> bytes:
    """The pinned file from the Hub's cache, or by one request: the Hub's client would try for half a minute."""
    import http.client
    import urllib.request

    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(HUB_REPO, HUB_FILE)
    if isinstance(cached, str):
        return _read(Path(cached))
    log.info("downloading the face detector %s of %s, once", HUB_FILE, HUB_REPO)
    told = f"finding faces needs the detector {HUB_FILE} of {HUB_REPO}, which is not here and cannot be downloaded"
    advice = "download it elsewhere and pass it with --detector PATH, or give aligned crops with --aligned"
    with explained(told, OSError, http.client.HTTPException, advice=advice):
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        with urllib.request.urlopen(hf_hub_url(HUB_REPO, HUB_FILE), timeout=10) as answer:
            return bytes(answer.read())


def turned_back(points: Points, turns: int, size: tuple[int, int]) -> Points:
    """Where points (points, 2) of a photo after quarter turns lie in the photo itself, of `size` (height, width)."""
    for step in range(turns - 1, -1, -1):
        points = np.stack([size[1 - step % 2] - 1 - points[:, 1], points[:, 0]], axis=1)
    return points


def _distinct(kept: list[Face], found: list[Face]) -> list[Face]:
    """`kept`, and the faces of `found` whose boxes overlap neither those nor a box with a higher score."""
    faces = [*kept, *found]
    scores = [face.score + (number < len(kept)) for number, face in enumerate(faces)]
    places = cv2.dnn.NMSBoxes([face.box for face in faces], scores, 0.0, OVERLAP)
    return sorted((faces[int(place)] for place in places), key=lambda face: -face.score)


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    method = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=method), np.uint8)
