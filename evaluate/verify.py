"""From two pictures to one answer: the face, its crop, the similarity, a threshold and what it stands for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from zoo.align import align, template
from zoo.detect import Face, FaceDetector, Rule, choose_face, detector_at_hand, load_detector
from zoo.errors import InputError
from zoo.evaluate.embedder import embed
from zoo.evaluate.session import OnnxEmbedder
from zoo.formats.images import read_image
from zoo.spec import ModelInfo, Threshold

Picture = str | Path | npt.NDArray[np.uint8]
"""A path to a picture file, or RGB uint8 of shape (H, W, 3)."""

CROP_DEVIATION = 0.12
"""A picture of the model's input size counts as aligned while its landmarks lie this close to the template, as
a mean distance in heights. Faces of aligned crops deviate by at most 0.06 (YuNet on LFW's crops)."""


@dataclass(frozen=True)
class FaceCrop:
    """The face that was taken from one picture."""

    name: str
    """The picture's path, or what messages call it."""
    size: tuple[int, int]
    """The picture's (height, width) in pixels, upright."""
    crop: npt.NDArray[np.uint8]
    """The aligned crop: RGB uint8 (height, width, 3) of the model's input size."""
    face: Face | None
    """Where it was found; None for a picture that was an aligned crop already."""
    faces: int
    """How many faces were found; 0 for an aligned crop."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know, one sentence each."""


@dataclass(frozen=True)
class Decision:
    """The threshold that similarities are compared with."""

    threshold: float | None
    """A pair is the same person when its similarity is greater; None where none is known."""
    origin: str
    """Where the threshold comes from, or why there is none: one sentence's worth."""
    stored: Threshold | None = None
    """The stored record, where it comes from the model."""


@dataclass(frozen=True)
class Verification:
    """The answer for two pictures."""

    similarity: float
    """The cosine of the two embeddings, in [−1, 1]."""
    same: bool | None
    """Whether the similarity is above the threshold; None where no threshold is known."""
    decision: Decision
    """The threshold and where it comes from."""
    a: FaceCrop
    """The face taken from the first picture."""
    b: FaceCrop
    """The face taken from the second picture."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know, one sentence each."""


def decide(info: ModelInfo | None, far: float | None = None, threshold: float | None = None) -> Decision:
    """The threshold for a model: the given one, or the stored one for `far` (default: the smallest stored).

    InputError when both are given, when `threshold` is no cosine, or when `far` is not among those measured.
    """
    if threshold is not None:
        if far is not None:
            raise InputError("expected --threshold or --far, found both; give one of them")
        if not -1 <= threshold <= 1:
            raise InputError(f"expected a threshold between -1 and 1, as cosines are, found {threshold}")
        return Decision(threshold, "given by you")
    if far is not None and not 0 < far <= 1:
        raise InputError(f"expected a false accept rate above 0 and at most 1, found {far}; 0.001 is one in a thousand")
    stored = info.thresholds if info else ()
    if not stored:
        return Decision(
            None,
            "this model stores none: give one with --threshold, or measure some with"
            " `zoo evaluate MODEL --data … --write-thresholds`",
        )
    chosen = [t for t in stored if far is None or np.isclose(t.far, far, rtol=1e-6, atol=0)]
    if not chosen:
        known = ", ".join(f"{t.far:g}" for t in sorted(stored, key=lambda t: t.far))
        raise InputError(f"expected a false accept rate that this model has a threshold for ({known}), found {far:g}")
    best = min(chosen, key=lambda t: t.far)
    return Decision(
        best.threshold,
        f"FAR {best.far:g} on {best.data}, {best.false_accepts:,} of {best.negatives:,} different pairs above it",
        best,
    )


class FaceVerifier:
    """Compares the faces of two pictures with an ONNX model, without PyTorch; may be shared between threads.

    `model` is a path or an open OnnxEmbedder; `detector` a path or an open FaceDetector, by default the pinned
    file of the Hugging Face Hub, which is loaded when the first photo needs it. `far` and `threshold` choose as
    `decide` does, `face` one of several faces; `aligned` takes every picture as an aligned crop. With `flip` an
    embedding is the sum over the crop and its mirror image; by default as the stored threshold was measured.
    `device` is the CPU, which answers before a GPU has started.
    """

    def __init__(
        self,
        model: str | Path | OnnxEmbedder,
        detector: str | Path | FaceDetector | None = None,
        *,
        far: float | None = None,
        threshold: float | None = None,
        face: Rule = "largest",
        aligned: bool = False,
        flip: bool | None = None,
        device: str = "cpu",
    ) -> None:
        self.embedder = model if isinstance(model, OnnxEmbedder) else OnnxEmbedder(model, device=device)
        self.decision = decide(self.embedder.info, far, threshold)
        stored = self.decision.stored
        self.flip = flip if flip is not None else stored.flip if stored else True
        self.rule = face
        self.aligned = aligned
        self._detector = detector if isinstance(detector, FaceDetector) else None
        self._detector_path = None if isinstance(detector, FaceDetector) else detector
        self._loading = threading.Lock()
        if self._detector_path is not None:  # a wrong path is told at once, not at the first photo
            self._detector = load_detector(self._detector_path)

    @property
    def detector(self) -> FaceDetector:
        """The face detector, loaded at the first use."""
        with self._loading:
            if self._detector is None:
                self._detector = load_detector(self._detector_path)
            return self._detector

    def crop(self, picture: Picture, name: str | None = None) -> FaceCrop:
        """The aligned crop of the face in `picture`; InputError where no face is found.

        A picture of exactly the model's input size is taken as an aligned crop unless a detector at hand finds
        its landmarks elsewhere.
        """
        image, name = _read(picture, name)
        height, width = image.shape[:2]
        size = self.embedder.input.size
        if self.aligned:
            note = () if (height, width) == size else (f"{name} is {width}×{height}, resized to {size[1]}×{size[0]}",)
            return FaceCrop(name, (height, width), _resized(image, size), None, 0, note)
        if (height, width) == size:
            found = self.detector.detect(image) if self._detector or detector_at_hand() else []
            if not found or _deviation(choose_face(found, size), size) <= CROP_DEVIATION:
                return FaceCrop(name, size, image, None, 0)
        faces = self.detector.detect(image)
        if not faces:
            raise InputError(
                f"expected a face in {name}, found none in its {width}×{height} pixels;"
                " use a photo with a larger face, or --aligned if it is an aligned crop"
            )
        face = choose_face(faces, (height, width), self.rule)
        notes: tuple[str, ...] = ()
        if len(faces) > 1:
            x, y = face.centre
            notes = (f"{name} shows {len(faces)} faces: the {self.rule} was taken, around ({x:.0f}, {y:.0f})",)
        return FaceCrop(name, (height, width), align(image, face.landmarks, size), face, len(faces), notes)

    def embed(self, picture: Picture) -> npt.NDArray[np.float32]:
        """The unit-length embedding (dim,) of the face in `picture`."""
        unit: npt.NDArray[np.float32] = self.embed_crops([self.crop(picture)])[0]
        return unit

    def embed_crops(self, crops: list[FaceCrop]) -> npt.NDArray[np.float32]:
        """The unit-length embeddings (crops, dim) of faces already found."""
        raw = embed(self.embedder, [crop.crop for crop in crops], flip=self.flip).astype(np.float64)
        norms = np.linalg.norm(raw, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            at = int(np.argmin(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
            raise InputError(
                f"expected a finite embedding other than zero, found none for {crops[at].name};"
                f" the model {self.embedder.path} is broken"
            )
        unit: npt.NDArray[np.float32] = (raw / norms).astype(np.float32)
        return unit

    def verify(self, a: Picture, b: Picture) -> Verification:
        """Whether two pictures show the same person; `same` is None where no threshold is known."""
        crops = [self.crop(a, None if _is_path(a) else "the first picture")]
        crops.append(self.crop(b, None if _is_path(b) else "the second picture"))
        return self.compare(*crops)

    def compare(self, a: FaceCrop, b: FaceCrop) -> Verification:
        """`verify` for faces already found."""
        first, second = self.embed_crops([a, b])
        similarity = float(np.clip(first.astype(np.float64) @ second.astype(np.float64), -1, 1))
        threshold = self.decision.threshold
        same = None if threshold is None else similarity > threshold
        return Verification(similarity, same, self.decision, a, b, self._notes(a, b))

    def _notes(self, a: FaceCrop, b: FaceCrop) -> tuple[str, ...]:
        notes = [*self.embedder.notes, *a.notes, *b.notes]
        stored = self.decision.stored
        if stored is not None:
            if stored.flip != self.flip:
                notes.append(
                    f"the threshold was measured {_flipped(stored.flip)}, this similarity {_flipped(self.flip)}"
                )
            photos = [crop.name for crop in (a, b) if crop.face is not None]
            if photos and stored.detector.startswith("none"):
                notes.append("the threshold was measured on ready-made crops, these faces were found and aligned here")
            if stored.model_sha256 and stored.model_sha256 != self.embedder.model_sha256:
                notes.append("the threshold was measured with other weights than this model's: measure it again")
        return tuple(dict.fromkeys(notes))


def _is_path(picture: Picture) -> bool:
    return isinstance(picture, str | Path)


def _read(picture: Picture, name: str | None) -> tuple[npt.NDArray[np.uint8], str]:
    if isinstance(picture, str | Path):
        return read_image(picture), name or str(picture)
    name = name or "the picture"
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"expected {name} as RGB uint8 of shape (H, W, 3), found {picture.dtype} of shape {picture.shape}"
        )
    return picture, name


def _resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    shrinking = image.shape[0] > size[0]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), dtype=np.uint8)


def _deviation(face: Face, size: tuple[int, int]) -> float:
    """The mean distance of a face's landmarks from the template, in heights of the crop."""
    return float(np.linalg.norm(face.landmarks - template(size), axis=1).mean() / size[0])


def _flipped(flip: bool) -> str:
    return "over the crop and its mirror image" if flip else "over the crop alone"
