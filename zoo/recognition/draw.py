"""The faces of a photo drawn into it, each with its name and similarity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from zoo.errors import InputError
from zoo.faces.detect import Face
from zoo.faces.finder import Picture, read_picture
from zoo.files import write_bytes
from zoo.formats.images import encode_jpeg, encode_png
from zoo.recognition.identify import Identification, IdentifiedFace

Pixels = npt.NDArray[np.uint8]
Corners = tuple[float, float, float, float]  #: A rectangle's (left, top, right, bottom)
UNKNOWN, UNKNOWN_COLOUR = "unknown", (150, 150, 150)  #: Label and colour of a face that resembles nobody
INK, PAPER = (28, 30, 33), (250, 250, 248)


def draw_identification(picture: Picture, answer: Identification) -> Pixels:
    """The photo with the name and the similarity at each face; a question mark where there is no threshold."""

    def label(face: IdentifiedFace) -> str:
        name, similarity = face.candidates[0]
        known = face.name or answer.decision.threshold is None
        return f"{face.name or f'{name}?'} {similarity:.2f}" if known else UNKNOWN

    return draw_faces(picture, [(face.crop.face, label(face)) for face in answer.faces if face.crop.face])


def draw_faces(picture: Picture, named: Sequence[tuple[Face, str]]) -> Pixels:
    """The photo with a box, the landmarks and a label for each of `named`."""
    image, _ = read_picture(picture)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    unit = max(image.shape[:2]) / 640  # lines and words look alike in large and small photos
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
