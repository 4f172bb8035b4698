"""Identification: from a picture to the people of a gallery whom its faces resemble, and their names drawn into it."""

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from zoo.errors import InputError
from zoo.faces.detect import Face
from zoo.faces.finder import FaceCrop, Picture, read_picture
from zoo.files import atomic_path, write_bytes
from zoo.formats.images import encode_jpeg, encode_png, printable
from zoo.recognition.batch import VerifiedPairs, pictures_in
from zoo.recognition.store import Store
from zoo.recognition.threshold import Decision, decide_identification
from zoo.recognition.verifier import FaceVerifier, Verification


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


Pixels = npt.NDArray[np.uint8]
UNKNOWN, UNKNOWN_COLOUR = "unknown", (150, 150, 150)  #: Label and colour of a face that resembles nobody
INK, PAPER = (28, 30, 33), (250, 250, 248)
VERDICTS = {True: "the same person", False: "different people", None: "no verdict"}
COLOURS = {True: (20, 130, 70), False: (190, 40, 40), None: (200, 130, 0)}  #: Of the verdicts


def draw_identification(picture: Picture, answer: Identification) -> Pixels:
    """The photo with the name and the similarity at each face; a question mark where there is no threshold."""

    def label(face: IdentifiedFace) -> str:
        name, similarity = face.candidates[0]
        known = face.name or answer.decision.threshold is None
        return f"{face.name or f'{name}?'} {similarity:.2f}" if known else UNKNOWN

    return draw_faces(picture, [(face.crop.face, label(face)) for face in answer.faces if face.crop.face])


def draw_verification(a: Picture, b: Picture, answer: Verification) -> Pixels:
    """The photos given to `verify` with the faces taken, below them both crops and the verdict: RGB uint8 (H, W, 3)."""
    panels = []
    for picture, crop in ((a, answer.a), (b, answer.b)):
        panel = Image.fromarray(draw_faces(picture, [(crop.face, "")] if crop.face else []))
        scale = min(480 / panel.height, 768 / panel.width)
        panels.append(panel.resize((max(1, round(panel.width * scale)), max(1, round(panel.height * scale)))))
    canvas = Image.new("RGB", (max(sum(panel.width for panel in panels) + 48, 768), 696), PAPER)
    pen, left = ImageDraw.Draw(canvas), 16
    for place, (panel, crop) in enumerate(zip(panels, (answer.a, answer.b), strict=True)):
        canvas.paste(panel, (left, 16))
        left += panel.width + 16
        canvas.paste(Image.fromarray(crop.crop).resize((168, 168)), (16 + 184 * place, 512))
    decision = "\n".join(textwrap.wrap(f"threshold {answer.decision}", 48))
    pen.text((384, 512), f"{answer.similarity:.4f}", INK, ImageFont.load_default(44))
    pen.text((384, 568), VERDICTS[answer.same], COLOURS[answer.same], ImageFont.load_default(30))
    pen.text((384, 616), decision, INK, ImageFont.load_default(15))
    return np.asarray(canvas, np.uint8)


def save_roc(path: str | Path, answers: VerifiedPairs) -> None:
    """Writes the ROC of a list of pairs as PNG or JPEG; InputError where the truth of one kind of pairs is unknown."""
    from zoo.evaluate.report.figures import roc_figure
    from zoo.evaluate.results import Curves

    if answers.scores is None:
        raise InputError("expected pairs of both kinds to draw a ROC, found one kind or no truth")
    figure = roc_figure([(f"{len(answers.rows):,} pairs", 0, Curves.of(answers.scores))])
    assert figure is not None
    with atomic_path(path) as draft:
        figure.savefig(draft, format=Path(path).suffix[1:].lower(), dpi=100)


def draw_faces(picture: Picture, named: Sequence[tuple[Face, str]]) -> Pixels:
    """The photo with a box, the landmarks and a label for each of `named`."""
    image, _ = read_picture(picture)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    unit = max(image.shape[:2]) / 640  # lines and words look alike in large and small photos
    font, pad = ImageFont.load_default(max(11, round(13 * unit))), 3 * unit
    taken = [(left, top, left + width, top + height) for left, top, width, height in (face.box for face, _ in named)]
    for (face, label), (x0, y0, x1, y1) in zip(named, tuple(taken), strict=True):
        colour = UNKNOWN_COLOUR if label == UNKNOWN else (60, 220, 90)
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=max(1, round(3 * unit)))
        radius = max(1.0, 0.012 * face.box[2])
        for x, y in face.landmarks:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 220, 0))
        if not label:
            continue
        # on a dark ground beside the box, where it covers least of the faces and labels in `taken`
        left, top, right, bottom = pen.multiline_textbbox((0, 0), label, font)
        w, h = right - left + 2 * pad, bottom - top + 2 * pad
        wished = np.array([(x0, y0 - h), (x0, y1), (x1 - w, y0 - h), (x1 - w, y1), (x1, y0), (x0 - w, y0)])
        starts = np.clip(wished, 0, [max(0, image.shape[1] - w), max(0, image.shape[0] - h)])
        places, others = np.hstack([starts, np.add(starts, (w, h))]), np.array(taken)
        sides = np.minimum(places[:, None, 2:], others[:, 2:]) - np.maximum(places[:, None, :2], others[:, :2])
        x, y, x_end, y_end = places[sides.clip(0).prod(axis=2).sum(axis=1).argmin()].tolist()
        pen.rectangle((x, y, x_end, y_end), fill=INK)
        pen.multiline_text((x + pad - left, y + pad - top), label, PAPER, font)
        taken.append((x, y, x_end, y_end))
    return np.asarray(canvas, np.uint8)


def save_picture(path: str | Path, image: Pixels) -> None:
    """Writes RGB uint8 (H, W, 3) as PNG or JPEG by the path's ending, whole or not at all."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"expected a file name ending in .png or .jpg to draw into, found {path}")
    write_bytes(path, encode_png(image) if suffix == ".png" else encode_jpeg(image))
