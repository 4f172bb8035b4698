"""Answers as pictures: the photos with their faces, the compared crops, the similarity and the verdict."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from zoo.errors import InputError
from zoo.evaluate.results import Curves
from zoo.faces.detect import Face
from zoo.faces.finder import FaceCrop, Picture, read_picture
from zoo.files import write_bytes
from zoo.formats.images import encode_jpeg, encode_png
from zoo.recognition.identify import Identification, IdentifiedFace
from zoo.recognition.pairs import VerifiedPairs
from zoo.recognition.verifier import Verification

Pixels = npt.NDArray[np.uint8]
Corners = tuple[float, float, float, float]  #: A rectangle's (left, top, right, bottom)
UNKNOWN, UNKNOWN_COLOUR = "unknown", (150, 150, 150)
"""The label and the box's colour of a face that resembles nobody enough."""

PHOTO_HEIGHT, CROP_SIDE, GAP = 480, 168, 16
INK, PAPER, QUIET = (28, 30, 33), (250, 250, 248), (235, 235, 235)
VERDICTS = {
    True: ("the same person", (20, 130, 70)),
    False: ("different people", (190, 40, 40)),
    None: ("no verdict", (200, 130, 0)),
}  #: Words and their colour


def draw_verification(a: Picture, b: Picture, answer: Verification) -> Pixels:
    """Both photos side by side with every face found, below them the two crops, the score and the verdict: RGB uint8.

    `a` and `b` are what was given to `verify`.
    """
    panels = [
        _fit(draw_faces(picture, [(crop.face, "")] if crop.face else [], crop.faces), PHOTO_HEIGHT)
        for picture, crop in ((a, answer.a), (b, answer.b))
    ]
    width = max(sum(panel.width for panel in panels) + 3 * GAP, 720)
    canvas = Image.new("RGB", (width, PHOTO_HEIGHT + CROP_SIDE + 3 * GAP + 24), PAPER)
    pen = ImageDraw.Draw(canvas)
    spare = left = (width - sum(panel.width for panel in panels)) // 3
    for panel, crop in zip(panels, (answer.a, answer.b), strict=True):
        canvas.paste(panel, (left, GAP))
        pen.text((left, GAP + PHOTO_HEIGHT + 4), _caption(crop, panel.width), INK, ImageFont.load_default(14))
        left += panel.width + spare
    top = PHOTO_HEIGHT + 2 * GAP + 24
    for side, crop in ((GAP, answer.a), (2 * GAP + CROP_SIDE, answer.b)):
        enlarged = cv2.resize(crop.crop, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_CUBIC)
        canvas.paste(Image.fromarray(np.asarray(enlarged, np.uint8)), (side, top))
    threshold, stored = answer.decision.threshold, answer.decision.stored
    said = "no threshold is known" if threshold is None else f"threshold {threshold:.4f}"
    lines = [(0, f"{answer.similarity:.4f}", INK, 44), (56, *VERDICTS[answer.same], 30)]
    lines.append((100, f"{said}, FAR {stored.far:g}" if stored else said, INK, 16))
    for below, text, colour, size in [*lines, *([(122, f"measured on {stored.data}", INK, 16)] if stored else [])]:
        pen.text((3 * GAP + 2 * CROP_SIDE, top + below), text, colour, ImageFont.load_default(size))
    return np.asarray(canvas, np.uint8)


def draw_identification(picture: Picture, answer: Identification) -> Pixels:
    """The photo with the name and the similarity at each face; a question mark where there is no threshold."""

    def label(face: IdentifiedFace) -> str:
        name, similarity = face.candidates[0]
        known = face.name or answer.decision.threshold is None
        return f"{face.name or f'{name}?'} {similarity:.2f}" if known else UNKNOWN

    return draw_faces(picture, [(face.crop.face, label(face)) for face in answer.faces if face.crop.face])


def draw_faces(picture: Picture, named: Sequence[tuple[Face, str]], others: Sequence[Face] = ()) -> Pixels:
    """The photo with a box, the landmarks and a label for each of `named`, and a thin grey box for `others`."""
    image, _ = read_picture(picture)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    unit = max(image.shape[:2]) / 640  # lines and words look alike in large and small photos
    for face in others:
        if all(face is not taken for taken, _ in named):
            pen.rectangle(_corners(face), outline=QUIET, width=max(1, round(2 * unit)))
    taken = [_corners(face) for face, _ in named]
    for face, label in named:
        colour = UNKNOWN_COLOUR if label == UNKNOWN else (60, 220, 90)
        pen.rectangle(_corners(face), outline=colour, width=max(1, round(3 * unit)))
        radius = max(1.0, 0.012 * face.box[2])
        for x, y in face.landmarks:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 220, 0))
        if label:
            taken.append(_label(pen, face, label, image.shape, unit, taken))
    return np.asarray(canvas, np.uint8)


def draw_pairs(answers: VerifiedPairs) -> Pixels:
    """The ROC curve with a logarithmic false accept rate, and both kinds of similarities beside it: RGB uint8.

    InputError where the truth is not known for pairs of both kinds.
    """
    from zoo.evaluate.report import figures

    if answers.scores is None or answers.summary is None:
        raise InputError("expected pairs of both kinds to draw a ROC, found one kind or no truth")
    curves = Curves.of(answers.scores)
    assert curves.roc and curves.histogram
    figure, (left, right) = figures.panels(2, 5.5, 4.6)
    floor = 0.5 / len(answers.scores.negatives)  # where "no false accept seen" is drawn
    figures.draw_roc(left, curves.roc, floor, **figures.line(0))
    figures.roc_axes(left)
    left.set(xlim=(floor, 1), ylim=(0, 1.02))
    figures.title(left, f"{len(answers.rows)} pairs, AUC {answers.summary.auc:.4f}")
    figures.draw_histogram(right, curves.histogram)
    return figures.pixels(figure)


def save_picture(path: str | Path, image: Pixels) -> None:
    """Writes RGB uint8 (H, W, 3) as PNG or JPEG by the path's ending, whole or not at all."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"expected a file name ending in .png or .jpg to draw into, found {path}")
    write_bytes(path, encode_png(image) if suffix == ".png" else encode_jpeg(image))


def _label(
    pen: ImageDraw.ImageDraw, face: Face, label: str, size: tuple[int, ...], unit: float, taken: Sequence[Corners]
) -> Corners:
    """Words on a dark ground beside the box, where they cover least of the faces and labels in `taken`."""
    font = ImageFont.load_default(max(11, round(13 * unit)))
    left, top, right, bottom = pen.multiline_textbbox((0, 0), label, font)
    pad = 3 * unit
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x0, y0, x1, y1 = _corners(face)
    places = []
    for x, y in ((x0, y0 - height), (x0, y1), (x1 - width, y0 - height), (x1 - width, y1), (x1, y0), (x0 - width, y0)):
        x, y = min(max(0.0, x), max(0.0, size[1] - width)), min(max(0.0, y), max(0.0, size[0] - height))
        places.append((x, y, x + width, y + height))
    place = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
    pen.rectangle(place, fill=INK)
    pen.multiline_text((place[0] + pad - left, place[1] + pad - top), label, PAPER, font)
    return place


def _overlap(a: Corners, b: Corners) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _corners(face: Face) -> Corners:
    left, top, width, height = face.box
    return left, top, left + width, top + height


def _fit(image: Pixels, height: int) -> Image.Image:
    scale = min(height / image.shape[0], 1.6 * height / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return Image.fromarray(np.asarray(cv2.resize(image, size, interpolation=method), np.uint8))


def _caption(crop: FaceCrop, width: int) -> str:
    name = Path(crop.name).name
    more = "aligned crop" if crop.face is None else "1 face" if len(crop.faces) == 1 else f"{len(crop.faces)} faces"
    text, font = f"{name}, {more}", ImageFont.load_default(14)
    while len(name) > 4 and font.getlength(text) > width:
        name = name[1:]
        text = f"…{name}, {more}"
    return text
