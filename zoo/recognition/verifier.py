"""Verification: from two pictures to their faces, the similarity and the verdict."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.detect import FaceDetector, load_detector
from zoo.faces.finder import FINDER, FaceCrop, FaceFinder, FaceRule, Picture
from zoo.formats.read_ahead import map_ahead
from zoo.inference.convention import GivenInput
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder
from zoo.machine import cores
from zoo.modelinfo import InputSpec, Threshold
from zoo.recognition.threshold import Decision, decide
from zoo.resolve import onnx_file


@dataclass(frozen=True)
class Verification:
    """The answer for two pictures."""

    similarity: float  #: The cosine of the two embeddings, in [−1, 1]
    same: bool | None  #: Whether the similarity is above the threshold; None where no threshold is known
    decision: Decision  #: The threshold and where it comes from
    a: FaceCrop  #: The face taken from the first picture
    b: FaceCrop  #: The face taken from the second picture
    model: Path  #: The ONNX file
    notes: tuple[str, ...] = ()  #: What limits the result, one sentence each

    def to_json(self) -> str:
        """One JSON object, as `zoo verify --json` prints it."""

        def picture(crop: FaceCrop) -> dict[str, Any]:
            found = {"path": crop.name, "size": crop.size, "faces": len(crop.faces), "aligned": crop.face is None}
            return {**found, **crop.facts()}

        answer = {"similarity": self.similarity, **self.decision.facts(), "same": self.same, "model": str(self.model)}
        return json.dumps({**answer, "a": picture(self.a), "b": picture(self.b), "notes": self.notes}, indent=2)


def verify(
    a: Picture,
    b: Picture,
    model: str | Path | OnnxEmbedder | None = None,
    detector: str | Path | FaceDetector | None = None,
    **options: Any,
) -> Verification:
    """Whether two pictures show the same person: what `zoo verify` does.

    The arguments are those of `FaceVerifier`, which is loaded anew by each call; keep one to compare many pictures.
    InputError for what is not a picture or not a model, and for a picture without a face.
    """
    return FaceVerifier(model, detector, **options).verify(a, b)


class FaceVerifier(FaceFinder):
    """Compares the faces of pictures with an ONNX model, without PyTorch; threads may share it.

    `model` is whatever `zoo.resolve` understands (None: the newest run that was exported) or an open OnnxEmbedder.
    `far` and `threshold` choose as `decide` does; `detector`, `face` and `aligned` are those of `FaceFinder`. With
    `flip` an embedding is the sum over the crop and its mirror image; by default as the stored threshold was measured.
    The default device is the CPU, which answers one question before a GPU has started. `threads` and `input` are those
    of OnnxEmbedder. Its own `model` is the ONNX file and `dim` the dimension of an embedding. A verifier can be pickled
    where its model and detector are files.
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
        threads: int | None = None,
        input: InputSpec | GivenInput | None = None,
    ) -> None:
        beside = isinstance(detector, str | Path) and not aligned  # is read while the model is opened
        opening = _threads(os.getpid()).submit(load_detector, detector) if beside else None  # type: ignore[arg-type]
        if isinstance(model, OnnxEmbedder):
            self.embedder = model
        else:  # detection and inference alternate on the same cores: spinning threads would slow both
            self.embedder = OnnxEmbedder(onnx_file(model), device=device, threads=threads, spin=False, input=input)
        super().__init__(opening.result() if opening else detector, face, self.embedder.input.size, aligned)
        self.decision = decide(self.embedder.info, far, threshold)
        stored = self.decision.stored
        self.flip = flip if flip is not None else stored.flip if stored else True
        self.model, self.dim = self.embedder.path, self.embedder.embedding_dim

    def how(self) -> dict[str, str | bool | int]:
        """What two runs must share so that their embeddings may be compared."""
        spec, info = self.embedder.input, self.embedder.info
        usual = replace(info.input if info else InputSpec(), size=spec.size)
        other = {} if spec == usual else {"input": f"{spec.channel_order}, {spec.scaling}"}
        detector, finder = ("none", 0) if self.aligned else (self.detector.sha256, FINDER)
        cut = {"alignment": spec.alignment, "face rule": self.face, "detector": detector}
        return {**other, "model": self.embedder.model_sha256, "flip": self.flip, **cut, "finder": finder}

    def embed(self, picture: Picture) -> npt.NDArray[np.float32]:
        """The unit-length embedding (dim,) of the face in `picture`."""
        return np.asarray(self.embed_crops([self.crop(picture)])[0], np.float32)

    def embed_many(self, pictures: Iterable[Picture], workers: int = 2) -> npt.NDArray[np.float32]:
        """`embed` of many pictures, (pictures, dim); `workers` threads read and search them ahead."""
        crops, rows = map_ahead(self.crop, pictures, workers, 64), [np.empty((0, self.dim), np.float32)]
        while part := list(islice(crops, 32)):
            rows.append(self.embed_crops(part))
        return np.concatenate(rows)

    def embed_crops(self, crops: list[FaceCrop]) -> npt.NDArray[np.float32]:
        """The unit-length embeddings (crops, dim) of faces already found."""
        return self.embed_with_norms(crops)[0]

    def embed_with_norms(self, crops: list[FaceCrop]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """`embed_crops`, and the norm (crops,) that each embedding had before."""
        if not crops:
            return np.empty((0, self.dim), np.float32), np.empty(0)
        raw = embed(self.embedder, [crop.crop for crop in crops], flip=self.flip).astype(np.float64)
        norms = np.linalg.norm(raw, axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        if not usable.all():
            found = f"found none for {crops[int(np.argmin(usable))].name}; the model {self.model} is broken"
            raise InputError(f"expected a finite embedding other than zero, {found}")
        return (raw / norms[:, None]).astype(np.float32), norms

    def verify(self, a: Picture, b: Picture) -> Verification:
        """Whether two pictures show the same person; `same` is None where no threshold is known.

        With face="all" every face of one is compared with every face of the other, and the most similar two count.
        """
        told = zip((a, b), ("the first picture", "the second picture"), strict=True)
        names = [None if isinstance(picture, str | os.PathLike) else name for picture, name in told]
        _ = self.aligned or self.detector  # loaded before two threads ask for it
        beside = _threads(os.getpid()).submit(self.crops, b, names[1])
        try:
            every_a = self.crops(a, names[0])
        finally:
            wait([beside])  # nothing of this call goes on after it
        every_b = beside.result()
        embeddings = self.embed_crops([*every_a, *every_b]).astype(np.float64)
        similarities = np.clip(embeddings[: len(every_a)] @ embeddings[len(every_a) :].T, -1, 1)
        i, j = np.unravel_index(int(similarities.argmax()), similarities.shape)
        similarity, face_a, face_b = float(similarities[i, j]), every_a[i], every_b[j]
        notes = [*self.embedder.notes, *face_a.notes, *face_b.notes]
        if self.decision.stored is not None:
            notes += self.conditions(self.decision.stored, face_a.face is not None or face_b.face is not None)
        if similarities.size > 1:
            chances = f"{similarities.size} comparisons are as many chances of a false accept"
            notes.append(f"the most similar two of {len(every_a)} and {len(every_b)} faces are compared: {chances}")
        faces, verdict = (face_a, face_b), self.decision.accepts(similarity)
        return Verification(similarity, verdict, self.decision, *faces, self.model, tuple(dict.fromkeys(notes)))

    def conditions(self, stored: Threshold, detected: bool) -> list[str]:
        """What differs from the conditions under which a threshold was measured, one sentence each."""
        notes, precision = [], self.embedder.precision
        if stored.flip != self.flip:
            over = {True: "over the crop and its mirror image", False: "over the crop alone"}
            notes.append(f"{over[stored.flip]}, this similarity {over[self.flip]}")
        if stored.precision != precision:
            notes.append(f"in {stored.precision}, this model takes {precision}")
        if detected and stored.detector.startswith("none"):
            notes.append("on aligned crops; these faces were detected and aligned here")
        elif detected and self.detector.sha256[:12] not in stored.detector:
            notes.append(f"with the detector {stored.detector}, here it is {self.detector.name}")
        if stored.model_sha256 and stored.model_sha256 != self.embedder.model_sha256:
            notes.append("with other weights: measure it again")
        return [f"the threshold was measured {note}" for note in notes]


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Threads that stay, for each process of a fork: OpenCV never frees what it keeps for a thread, about 1 kB."""
    return ThreadPoolExecutor(cores(), "zoo-verify")
