"""What the operations do, over the public Python API: bytes in, answers out, nothing about HTTP but its problems."""

import base64
import hashlib
import json
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.faces.detect import load_detector
from zoo.faces.finder import FaceCrop, FaceRule, NoFace, Picture
from zoo.formats.images import encode_png
from zoo.inference.session import OnnxEmbedder
from zoo.messages import log
from zoo.modelinfo import Crops
from zoo.recognition import FaceVerifier
from zoo.recognition.store import Store
from zoo.resolve import onnx_file
from zoo.serve.problems import Problem
from zoo.serve.schemas import EmbedOptions, FaceOptions, IdentifyOptions, Sent, VerifyOptions
from zoo.serve.settings import Limits, Settings
from zoo.serve.shelf import Shelf

MOST_CROPS = 16  #: Crops that go through the model together
Answer = dict[str, Any]
Waiting = tuple[Crops, "Future[npt.NDArray[np.float32]]"]  #: The crops of one call, and its embeddings or why not


class SharedEmbedder(OnnxEmbedder):
    """An OnnxEmbedder that threads share: one inference at a time, with the crops of every call that waits for it.

    Nothing waits for a batch to fill: whoever gets the session computes at once, for all that wait by then.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._waiting: list[Waiting] = []
        self._turn = threading.Lock()
        super().__init__(path, **options)

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        embeddings: Future[npt.NDArray[np.float32]] = Future()
        self._waiting.append((crops, embeddings))
        with self._turn:
            while not embeddings.done():  # one inference for the calls that came first; others may join meanwhile
                waiting, taken = self._waiting, [self._waiting.pop(0)]
                while waiting and waiting[0][0].shape[1:] == taken[0][0].shape[1:]:
                    if sum(len(rows) for rows, _ in [*taken, waiting[0]]) > MOST_CROPS:
                        break
                    taken.append(waiting.pop(0))
                try:
                    found = super().__call__(np.concatenate([rows for rows, _ in taken]))
                except BaseException as error:  # each caller raises it
                    for _, future in taken:
                        future.set_exception(error)
                    continue
                ends = np.cumsum([len(rows) for rows, _ in taken])
                for (_, future), part in zip(taken, np.split(found, ends[:-1]), strict=True):
                    future.set_result(part)
        return embeddings.result()


class BoundedVerifier(FaceVerifier):
    """A FaceVerifier of pictures as they are sent, which refuses those with more pixels or faces than allowed."""

    limits = Limits()

    def crops(self, picture: Picture, name: str | None = None) -> list[FaceCrop]:
        damage: list[str] = []
        found = super().crops(picture.pixels(self.limits, damage), name or picture.name)
        if len(found) > self.limits.max_faces:
            faces = f"at most {self.limits.max_faces} faces in {name or picture.name}, found {len(found)}"
            raise InputError(f"expected {faces}; cut the picture, or choose the largest face")
        return [replace(one, notes=(*damage, *one.notes)) for one in found]


class Service:
    """A model, its detector and a gallery, shared by every request; threads may call every method."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        options: dict[str, Any] = {"threads": settings.threads_each, "input": settings.input}
        self.embedder = SharedEmbedder(onnx_file(settings.model), device="cpu", spin=False, **options)
        self._detector = None if settings.aligned else load_detector(settings.detector)
        self.verifier = self._verifier(far=settings.far, threshold=settings.threshold)
        self.shelf = Shelf(settings.gallery, self.verifier, settings.enrol) if settings.gallery else None

    def _verifier(self, face: FaceRule | None = None, aligned: bool = False, **decision: float | None) -> FaceVerifier:
        """A verifier with other options over the same model and detector."""
        settings = self.settings
        options: dict[str, Any] = {"face": face or settings.face, "aligned": aligned or settings.aligned, **decision}
        verifier = BoundedVerifier(self.embedder, self._detector, **options)
        verifier.limits = settings.limits
        return verifier

    def verify(self, options: VerifyOptions, a: Sent, b: Sent) -> Answer:
        """Whether two pictures show the same person: `Verification.to_json` without paths."""
        decision = self.settings if (options.far, options.threshold) == (None, None) else options
        verifier = self._verifier(options.face, options.aligned, far=decision.far, threshold=decision.threshold)
        answer = verifier.verify(a, b)
        told: Answer = json.loads(answer.to_json())
        for name, crop in (("a", answer.a), ("b", answer.b)):
            told[name].pop("path")
            told[name] |= _png(crop, options.crops)
        return told | self._named()

    def identify(self, options: IdentifyOptions, picture: Sent) -> Answer:
        """The people of the gallery in a picture: `Identification.to_json`."""
        gallery, verifier = self.gallery(), self._verifier(options.face, options.aligned)
        decision = self.settings if (options.fpir, options.threshold) == (None, None) else options
        rates = {"fpir": decision.fpir, "threshold": decision.threshold}
        answer = gallery.identify(picture, verifier, top=options.top, **rates)
        told: Answer = json.loads(answer.to_json())
        for face, found in zip(told["faces"], answer.faces, strict=True):
            face |= _png(found.crop, options.crops)
        return told

    def detect(self, options: FaceOptions, picture: Sent) -> Answer:
        """The faces of a picture; none is an answer too."""
        try:
            crops = self._verifier(options.face, options.aligned).crops(picture)
        except NoFace:
            return {"size": picture.pixels(self.settings.limits).shape[:2], "faces": []}
        return {"size": crops[0].size, "faces": [_face(crop, options.crops) for crop in crops]}

    def embed(self, options: EmbedOptions, picture: Sent) -> Answer:
        """The embeddings of a picture's faces, where the server gives them out."""
        if not self.settings.allow_embeddings:
            raise Problem(403, "embeddings are biometric data: this server was started without --allow-embeddings")
        verifier = self._verifier(options.face, options.aligned)
        crops = verifier.crops(picture)
        rows = zip(crops, verifier.embed_crops(crops).tolist(), strict=True)
        return {"faces": [_face(crop) | {"embedding": row} for crop, row in rows]} | self._named()

    def enrol(self, name: str, photo: Sent) -> Answer:
        """Adds the face of a photo to a person, new or not; on the disk before it is answered."""
        shelf, verifier = self._shelf(), self._verifier("central" if self.verifier.face == "central" else "largest")
        name, crop = shelf.name_in(name), verifier.crop(photo)
        sha256 = hashlib.sha256(photo.content).hexdigest()
        done = shelf.enrol(name, sha256, verifier.embed_crops([crop])[0])
        return {"name": name, "photo": sha256, "added": bool(done.audit), "notes": crop.notes} | done._asdict()

    def remove(self, name: str, sha256: str | None = None) -> Answer:
        """Removes a person and all that belongs to them, or one photo, by the SHA-256 of its file."""
        shelf = self._shelf()
        return shelf.remove(shelf.name_in(name), sha256)._asdict()

    def people(self, offset: int, limit: int) -> Answer:
        counts = list(self.gallery().photo_counts().items())
        page = counts[offset : offset + limit]
        return {"total": len(counts), "people": [{"name": name, "photos": photos} for name, photos in page]}

    def photos(self, name: str) -> Answer:
        gallery, shelf = self.gallery(), self._shelf()
        name = shelf.name_in(name)
        return {"name": name, "photos": shelf.photos(gallery, name)}

    def facts(self) -> Answer:
        verifier, info, settings = self.verifier, self.embedder.info, self.settings
        return {
            **self._named(),
            "size": self.embedder.input.size,
            "dim": verifier.dim,
            "flip": verifier.flip,
            **{name: getattr(info, name, "") for name in ("backbone", "head", "training_set", "license")},
            "detector": "none" if settings.aligned else verifier.detector.name,
            **verifier.decision.facts(),
            "thresholds": [asdict(threshold) for threshold in (info.thresholds if info else ())],
            "notes": self.embedder.notes,
            "people": len(self.gallery()) if self.shelf else None,
            "enrol": settings.enrol,
            "embeddings": settings.allow_embeddings,
            "token": not (settings.is_loopback or settings.no_auth),
            "limits": asdict(settings.limits),
        }

    def gallery(self) -> Store:
        """The gallery of the moment; 404 where the server has none, 500 where it cannot be read."""
        shelf = self._shelf()
        try:
            return shelf.current()
        except InputError as error:
            log.error("%s", error)
            raise Problem(500, "the gallery of this server cannot be read; its log says why") from None

    def without_paths(self, sentence: str) -> str:
        """A sentence of the library with the server's files by their names alone."""
        for path in (self.embedder.path, self.settings.gallery, self.settings.detector):
            sentence = sentence.replace(str(path), Path(path).name) if path else sentence
        return sentence

    def _shelf(self) -> Shelf:
        if self.shelf is None:
            raise Problem(404, "this server has no gallery: it was started without --gallery")
        return self.shelf

    def _named(self) -> Answer:
        return {"model": self.embedder.path.name, "model_sha256": self.embedder.model_sha256}


def _face(crop: FaceCrop, png: bool = False) -> Answer:
    return {**crop.facts(), "notes": crop.notes, **_png(crop, png)}


def _png(crop: FaceCrop, wanted: bool) -> Answer:
    return {"crop": base64.b64encode(encode_png(crop.crop)).decode()} if wanted else {}
