"""Identification: from a picture to the people of a gallery whom its faces resemble."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.faces.finder import FaceCrop, Picture
from zoo.formats.images import printable
from zoo.recognition.batch import pictures_in
from zoo.recognition.store import Store
from zoo.recognition.threshold import Decision, decide_identification
from zoo.recognition.verifier import FaceVerifier


@dataclass(frozen=True)
class IdentifiedFace:
    """One face of a picture and the people it resembles."""

    crop: FaceCrop
    candidates: tuple[tuple[str, float], ...]  #: The most similar people and their similarities, best first
    name: str | None  #: The best candidate's where it is above the threshold; None for unknown, and without a threshold


@dataclass(frozen=True)
class Identification:
    """The faces of a picture, identified in a gallery."""

    faces: tuple[IdentifiedFace, ...]
    decision: Decision  #: The threshold and where it comes from
    people: int  #: How many people the gallery holds
    notes: tuple[str, ...] = ()  #: What limits the result, one sentence each

    def to_json(self) -> str:
        """One JSON object, as `zoo identify --json` prints it."""
        faces = []
        for face in self.faces:
            ranked = [{"name": name, "similarity": similarity} for name, similarity in face.candidates]
            found = {"box": face.crop.face and face.crop.face.box, "identified": face.name}
            faces.append({**found, "candidates": ranked, "notes": face.crop.notes})
        answer = {"people": self.people, **self.decision.facts(), "faces": faces, "notes": self.notes}
        return json.dumps(answer, indent=2)


def identify(
    gallery: Store,
    picture: Picture,
    verifier: FaceVerifier,
    *,
    fpir: float | None = None,
    threshold: float | None = None,
    top: int = 5,
) -> Identification:
    """Identifies the faces that `verifier` picks in `picture`, each with its `top` most similar people.

    A face is identified where its best similarity is above `threshold`, or above the stored threshold that keeps the
    false positive identification rate `fpir`; without either it is only ranked. InputError for a gallery of another
    model or without people.
    """
    return _identifier(gallery, verifier, fpir, threshold, top)(verifier.crops(picture))


def identify_many(
    gallery: Store, paths: Iterable[str | Path], verifier: FaceVerifier, **options: Any
) -> Iterator[tuple[str, Identification | InputError]]:
    """`identify` of each photo at `paths` and in the folders among them, with its path, or why it cannot be used."""
    identified = _identifier(gallery, verifier, **options)
    for path in pictures_in(paths):
        try:
            crops = verifier.crops(path)
        except InputError as error:
            yield printable(path), error
        else:
            yield printable(path), identified(crops)


def _identifier(
    gallery: Store, verifier: FaceVerifier, fpir: float | None = None, threshold: float | None = None, top: int = 5
) -> Callable[[list[FaceCrop]], Identification]:
    """From the faces of a picture to the people they resemble, with all checks made before."""
    told = [*gallery.notes, *gallery.require(verifier)]
    if not len(gallery):
        raise InputError("expected people in the gallery, found none; add some with `zoo index`")
    if top < 1:
        raise InputError(f"expected to rank at least 1 person, found {top}")
    decision = decide_identification(verifier.embedder.info, len(gallery), fpir, threshold)
    if moved := gallery.facts.get("migrated"):
        told.append(f"the gallery was migrated: {moved}")

    def identified(crops: list[FaceCrop]) -> Identification:
        faces = []
        for crop, candidates in zip(crops, gallery.ranked(verifier.embed_crops(crops), top), strict=True):
            best = next((name for name, cosine in candidates[:1] if decision.accepts(cosine)), None)
            faces.append(IdentifiedFace(crop, candidates, best))
        times = Counter(face.name for face in faces if face.name)
        notes = [f"{name} was found {count} times" for name, count in times.items() if count > 1]
        return Identification(tuple(faces), decision, len(gallery), (*told, *notes))

    return identified
