"""Verification: from two pictures to their faces, the similarity and the verdict."""

from __future__ import annotations

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.align import align, template
from zoo.faces.detect import Face, FaceDetector, choose_face, detector_at_hand, load_detector
from zoo.faces.quality import Quality, measure
from zoo.formats.images import resized
from zoo.formats.photos import printable, read_photo
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import Threshold
from zoo.recognition.threshold import Decision, decide
from zoo.resolve import onnx_file

Picture = str | Path | npt.NDArray[np.uint8]
"""A path to a picture file, or RGB uint8 of shape (H, W, 3)."""

FaceRule = Literal["largest", "central", "all"]
"""Which of several faces is taken: the largest, the one nearest to the centre, or each of them."""

CROP_DEVIATION = 0.12
"""A picture of the model's input size counts as aligned while its landmarks lie this close to the template, by
their mean distance in heights; `benchmarks/verify.py --quality` prints where the crops of a benchmark lie."""


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
    faces: tuple[Face, ...]
    """Every face that was found in the picture; none for an aligned crop."""
    quality: Quality
    """How large, sharp and frontal the face is."""
    notes: tuple[str, ...] = ()
    """What limits the result, one sentence each."""

    def facts(self) -> dict[str, Any]:
        """Where the face is and how good it is, as JSON holds it: box, landmarks, score, quality."""
        face = self.face
        return {
            "box": list(face.box) if face else None,
            "landmarks": face.landmarks.tolist() if face else None,
            "score": face.score if face else None,
            "quality": asdict(self.quality),
        }


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
    model: Path
    """The ONNX file."""
    notes: tuple[str, ...] = ()
    """What limits the result, one sentence each."""

    def to_json(self) -> str:
        """One JSON object, as `zoo verify --json` prints it."""

        def picture(crop: FaceCrop) -> dict[str, Any]:
            size, count = list(crop.size), len(crop.faces)
            return {"path": crop.name, "size": size, "faces": count, "aligned": crop.face is None, **crop.facts()}

        stored = self.decision.stored
        answer = {
            "similarity": self.similarity,
            "threshold": self.decision.threshold,
            "far": stored.far if stored else None,
            "origin": self.decision.origin,
            "same": self.same,
            "model": str(self.model),
            "a": picture(self.a),
            "b": picture(self.b),
            "notes": self.notes,
        }
        return json.dumps(answer, indent=2)


def verify(
    a: Picture,
    b: Picture,
    model: str | Path | OnnxEmbedder | None = None,
    detector: str | Path | FaceDetector | None = None,
    *,
    far: float | None = None,
    threshold: float | None = None,
    face: FaceRule = "largest",
    aligned: bool = False,
) -> Verification:
    """Whether two pictures show the same person: what `zoo verify` does.

    The options are those of `FaceVerifier`, which is loaded anew by each call; keep one to compare many pictures.
    InputError for what is not a picture or not a model, and for a picture without a face.
    """
    return FaceVerifier(model, detector, far=far, threshold=threshold, face=face, aligned=aligned).verify(a, b)


class FaceVerifier:
    """Compares the faces of pictures with an ONNX model, without PyTorch; threads may share it.

    `model` is whatever `zoo.resolve` understands (None: the newest run that was exported) or an open OnnxEmbedder;
    `detector` a path or an open FaceDetector, by default the pinned file of the Hugging Face Hub, which is loaded when
    the first photo needs it. `far` and `threshold` choose as `decide` does, `face` picks one of several faces or all;
    `aligned` takes every picture as an aligned crop. With `flip` an embedding is the sum over the crop and its mirror
    image; by default as the stored threshold was measured. The default device is the CPU, which answers one question
    before a GPU has started.
    """

    def __init__(
        self,
        model: str | Path | OnnxEmbedder | None = None,
        detector: str | Path | FaceDetector | None = None,
        *,
        far: float | None = None,
        threshold: float | None = None,
        face: FaceRule = "largest",
        aligned: bool = False,
        flip: bool | None = None,
        device: str = "cpu",
    ) -> None:
        require_face_rule(face)
        # detection and inference alternate on the same cores: spinning threads would slow both
        if isinstance(model, OnnxEmbedder):
            self.embedder = model
        else:
            self.embedder = OnnxEmbedder(onnx_file(model), device=device, spin=False)
        self.decision = decide(self.embedder.info, far, threshold)
        stored = self.decision.stored
        self.flip = flip if flip is not None else stored.flip if stored else True
        self.face = face
        self.aligned = aligned
        self._detector = detector if isinstance(detector, FaceDetector) else None
        self._detector_path = None if isinstance(detector, FaceDetector) else detector
        self._loading = threading.Lock()
        if self._detector_path is not None:  # a wrong path fails here, not at the first photo
            self._detector = load_detector(self._detector_path)

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.embedder.path

    @property
    def detector(self) -> FaceDetector:
        """The face detector, loaded at the first use."""
        with self._loading:
            if self._detector is None:
                self._detector = load_detector(self._detector_path)
            return self._detector

    def taking(self, face: FaceRule) -> FaceVerifier:
        """The same verifier with another rule for pictures of several faces."""
        other = copy.copy(self)
        other.face = face
        return other

    def crop(self, picture: Picture, name: str | None = None) -> FaceCrop:
        """The aligned crop of the face that `face` picks in `picture`, the largest of all; InputError for no face.

        A picture of exactly the model's input size is taken as an aligned crop unless a detector at hand finds
        its landmarks elsewhere.
        """
        return self._crops(picture, name, every=False)[0]

    def crops(self, picture: Picture, name: str | None = None) -> list[FaceCrop]:
        """The aligned crops of the faces that `face` picks: with "all" each, from left to right, else the one."""
        return self._crops(picture, name, every=self.face == "all")

    def _crops(self, picture: Picture, name: str | None, every: bool) -> list[FaceCrop]:
        image, name = read_picture(picture, name)
        ready = self._ready_made(image, name)
        if ready is not None:
            return [ready]
        faces = self._found(image, name)
        if every:
            faces.sort(key=lambda face: face.centre[0])
            return [self._aligned(image, name, face, faces, []) for face in faces]
        face = choose_face(faces, image.shape[:2], "central" if self.face == "central" else "largest")
        notes = []
        if len(faces) > 1:
            x, y = face.centre
            rule = "the one nearest to the centre" if self.face == "central" else "the largest"
            notes.append(f"{name} shows {len(faces)} faces: {rule} was taken, around ({x:.0f}, {y:.0f})")
        return [self._aligned(image, name, face, faces, notes)]

    def _ready_made(self, image: npt.NDArray[np.uint8], name: str) -> FaceCrop | None:
        """The picture itself where it is an aligned crop; None for a photo."""
        height, width = image.shape[:2]
        size = self.embedder.input.size
        if self.aligned:
            note = () if (height, width) == size else (f"{name} is {width}×{height}, resized to {size[1]}×{size[0]}",)
            crop = resized(image, size)
            return FaceCrop(name, (height, width), crop, None, (), measure(crop), note)
        if (height, width) != size:
            return None
        found = self.detector.detect(image) if self._detector or detector_at_hand() else []
        if found and deviation(choose_face(found, size), size) > CROP_DEVIATION:
            return None
        return FaceCrop(name, size, image, None, (), measure(image))

    def _found(self, image: npt.NDArray[np.uint8], name: str) -> list[Face]:
        faces = self.detector.detect(image, thorough=self.face == "all")
        if not faces:
            height, width = image.shape[:2]
            raise InputError(
                f"expected a face in {name}, found none in its {width}×{height} pixels;"
                " use a photo with a larger face, or --aligned if it is an aligned crop"
            )
        return faces

    def _aligned(
        self, image: npt.NDArray[np.uint8], name: str, face: Face, faces: list[Face], notes: list[str]
    ) -> FaceCrop:
        crop = align(image, face.landmarks, self.embedder.input.size)
        quality = measure(crop, face.landmarks)
        warnings = [f"the face in {name} is {warning}" for warning in quality.warnings()]
        return FaceCrop(name, image.shape[:2], crop, face, tuple(faces), quality, (*notes, *warnings))

    def embed(self, picture: Picture) -> npt.NDArray[np.float32]:
        """The unit-length embedding (dim,) of the face in `picture`."""
        unit: npt.NDArray[np.float32] = self.embed_crops([self.crop(picture)])[0]
        return unit

    def embed_crops(self, crops: list[FaceCrop]) -> npt.NDArray[np.float32]:
        """The unit-length embeddings (crops, dim) of faces already found."""
        return self.embed_with_norms(crops)[0]

    def embed_with_norms(self, crops: list[FaceCrop]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """`embed_crops`, and the norm (crops,) that each embedding had before."""
        raw = embed(self.embedder, [crop.crop for crop in crops], flip=self.flip).astype(np.float64)
        norms = np.linalg.norm(raw, axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        if not usable.all():
            raise InputError(
                f"expected a finite embedding other than zero, found none for {crops[int(np.argmin(usable))].name};"
                f" the model {self.embedder.path} is broken"
            )
        return (raw / norms[:, None]).astype(np.float32), norms

    def verify(self, a: Picture, b: Picture) -> Verification:
        """Whether two pictures show the same person; `same` is None where no threshold is known.

        With face="all" every face of one is compared with every face of the other, and the most similar two count.
        """
        names = [
            None if isinstance(p, str | Path) else f"the {nth} picture" for p, nth in ((a, "first"), (b, "second"))
        ]
        with ThreadPoolExecutor(2) as pool:
            every_a, every_b = pool.map(self.crops, (a, b), names)
        embeddings = self.embed_crops([*every_a, *every_b]).astype(np.float64)
        similarities = embeddings[: len(every_a)] @ embeddings[len(every_a) :].T
        i, j = np.unravel_index(int(similarities.argmax()), similarities.shape)
        answer = self.judge(every_a[i], every_b[j], float(similarities[i, j]))
        if similarities.size == 1:
            return answer
        note = (
            f"the most similar two of {len(every_a)} and {len(every_b)} faces are compared:"
            f" {similarities.size} comparisons are as many chances of a false accept"
        )
        return replace(answer, notes=(*answer.notes, note))

    def judge(self, a: FaceCrop, b: FaceCrop, similarity: float) -> Verification:
        """`verify` for faces already embedded."""
        similarity = min(1.0, max(-1.0, similarity))
        threshold = self.decision.threshold
        same = None if threshold is None else similarity > threshold
        return Verification(similarity, same, self.decision, a, b, self.model, self._notes(a, b))

    def _notes(self, a: FaceCrop, b: FaceCrop) -> tuple[str, ...]:
        notes = [*self.embedder.notes, *a.notes, *b.notes]
        stored = self.decision.stored
        if stored is not None:
            if stored.flip != self.flip:
                notes.append(
                    f"the threshold was measured {_flipped(stored.flip)}, this similarity {_flipped(self.flip)}"
                )
            if stored.precision != self.embedder.precision:
                notes.append(
                    f"the threshold was measured in {stored.precision}, this model takes {self.embedder.precision}"
                )
            if a.face is not None or b.face is not None:
                notes += self._detector_note(stored)
            if stored.model_sha256 and stored.model_sha256 != self.embedder.model_sha256:
                notes.append("the threshold was measured with other weights: measure it again")
        return tuple(dict.fromkeys(notes))

    def _detector_note(self, stored: Threshold) -> list[str]:
        if stored.detector.startswith("none"):
            return ["the threshold was measured on aligned crops; these faces were detected and aligned here"]
        if stored.detector not in (self.detector.name, self.detector.sha256):
            return [f"the threshold was measured with the detector {stored.detector}, here it is {self.detector.name}"]
        return []


def require_face_rule(face: str) -> None:
    """InputError for an unknown rule."""
    if face not in get_args(FaceRule):
        raise InputError(f"expected the face to be {', '.join(get_args(FaceRule))}, found {face!r}")


def read_picture(picture: Picture, name: str | None = None) -> tuple[npt.NDArray[np.uint8], str]:
    """The picture's pixels, RGB uint8 (H, W, 3), and what messages call it; InputError for anything else."""
    if isinstance(picture, str | Path):
        return read_photo(picture), name or printable(picture)
    name = name or "the picture"
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"expected {name} as RGB uint8 of shape (H, W, 3), found {picture.dtype} of shape {picture.shape}"
        )
    return picture, name


def deviation(face: Face, size: tuple[int, int]) -> float:
    """The mean distance of a face's landmarks from the template, in heights of the crop."""
    return float(np.linalg.norm(face.landmarks - template(size), axis=1).mean() / size[0])


def _flipped(flip: bool) -> str:
    return "over the crop and its mirror image" if flip else "over the crop alone"
