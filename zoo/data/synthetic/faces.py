"""Synthetic faces, how they are drawn, as a training set, and pairs of them as a benchmark."""

import functools
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from zoo.data.synthetic.person import Colour, Draws, Identity, Points, Shot, draw_identity, draw_shot, mix
from zoo.errors import InputError
from zoo.faces.align import ARCFACE_TEMPLATE, similarity_transform
from zoo.formats.images import Image

Part = tuple[Points, Colour, float]  #: A filled outline: points (points, 2), colour, distance off the head's surface
BEHIND, RIM = -100.0, -50.0
BLACK, WHITE = np.zeros(3), np.array([236.0, 232, 226])
SPLITS = {"train": 0, "test": 1}
PAIR_IMAGES = 10  #: Images of each test identity among the pairs


@functools.cache
def circle(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosine and sine of `count` angles once around."""
    angles = np.arange(count) * (2 * np.pi / count)
    return np.cos(angles), np.sin(angles)


def ellipse(x: float, y: float, width: float, height: float, tilt: float = 0.0, count: int = 16) -> Points:
    """An ellipse of half axes `width` and `height`, turned by `tilt` radians: (count, 2)."""
    cos, sin = circle(count)
    across, down = width * cos, height * sin
    right = x + across * np.cos(tilt) - down * np.sin(tilt)
    return np.stack([right, y + across * np.sin(tilt) + down * np.cos(tilt)], axis=1)


def band(spine: Points, thickness: npt.NDArray[np.float64] | float) -> Points:
    """The outline of a stroke along `spine` (points, 2), `thickness` pixels high: (2 · points, 2)."""
    half = np.zeros_like(spine)
    half[:, 1] = np.asarray(thickness) / 2
    return np.concatenate([spine - half, (spine + half)[::-1]])


def parts_of(who: Identity, shot: Shot) -> list[Part]:
    """The face as filled outlines, the ones behind first; `BEHIND` as depth means the plane through the ears."""
    parts = [*head_parts(who), *eye_parts(who, shot, -1), *eye_parts(who, shot, 1)]
    parts += [*nose_parts(who), *mouth_parts(who, shot)]
    parts += [(ellipse(x, y, 1.4, 1.4, count=8), who.skin * 0.55 * 0.6, 0.0) for x, y in who.moles.tolist()]
    if who.bald:
        return parts
    angles, x = np.linspace(np.pi, 2 * np.pi, 17), np.linspace(1, -1, 17)
    wide, high = who.cheek + who.volume * 0.6, who.crown + who.volume
    cap = np.stack([wide * np.cos(angles), high * np.sin(angles) - 2], axis=1)
    fall = who.fringe * np.abs(x - who.parting) ** 1.5 + 3 * who.waves * np.sin(9 * x) * 0.3
    hairline = np.stack([x * who.cheek * 0.96, np.minimum(-who.hairline + fall + 14 * x**8, -4)], axis=1)
    return [*parts, (np.concatenate([cap, hairline]), who.hair, 2)]


def head_parts(who: Identity) -> Iterator[Part]:
    """Hair behind the head, neck, ears, the head and its beard."""
    if not who.bald:
        back = ellipse(0, -6, who.cheek + who.volume * 0.8, who.crown + who.volume, count=32)
        below = back[:, 1] > 0
        back[below, 0] = np.sign(back[below, 0]) * (who.cheek + who.volume * 0.8)
        back[below, 1] *= max(who.hair_length, 0) / (who.crown + who.volume)
        yield back, who.hair * 0.8, BEHIND
    yield np.array([[-17, 30], [17, 30], [22, 90], [-22, 90.0]]), who.skin * 0.72, BEHIND
    for side in (-1, 1):
        ear = (side * (who.cheek + 1), who.ear_height)
        yield ellipse(*ear, who.ear_size * 0.5, who.ear_size, side * 0.2), who.skin * 0.8, BEHIND
        yield ellipse(*ear, who.ear_size * 0.25, who.ear_size * 0.6, side * 0.2), who.skin * 0.55, BEHIND
    cos, sin = circle(48)  # clockwise from the right temple
    jaw = np.abs(cos) ** who.jaw * (1 - who.taper * np.clip(sin, 0, None) ** 2)
    width = np.where(sin > 0, jaw, np.abs(cos) ** 0.85)
    head = np.stack([np.sign(cos) * width * who.cheek, np.where(sin > 0, who.chin, who.crown) * sin], axis=1)
    yield head, who.skin, RIM
    if who.beard:
        low = head[(head[:, 1] > who.beard_line)]
        curve = who.beard_line + 12 * np.sin(np.linspace(0, np.pi, 9))
        dip = np.stack([np.linspace(low[-1, 0], low[0, 0], 9), curve], axis=1)
        yield np.concatenate([low, dip]), mix(who.skin, who.hair, who.beard), RIM


def eye_parts(who: Identity, shot: Shot, side: int) -> Iterator[Part]:
    """The eye of one side (−1 or 1), its brow, and the line from nose to mouth."""
    deep, x, opening = who.skin * 0.55, side * who.eye_gap, who.eye_height * shot.eyes
    yield ellipse(x, 0.5, who.eye_width * 1.25, who.eye_height * 1.6, side * who.eye_tilt), who.skin * 0.8, 0.0
    lid = ellipse(x, 0, who.eye_width, opening, side * who.eye_tilt)
    yield lid, WHITE, 0.0
    (gaze_x, gaze_y), iris = (x + shot.gaze[0], shot.gaze[1]), min(who.iris_size, opening + 0.6)
    yield ellipse(gaze_x, gaze_y, who.iris_size, iris), who.iris, 0.0
    yield ellipse(gaze_x, gaze_y, who.iris_size * 0.45, iris * 0.45, count=8), BLACK, 0.0
    yield ellipse(gaze_x - 1, gaze_y - 1, 0.7, 0.7, count=8), WHITE, 0.0
    yield band(np.concatenate([lid[8:], lid[:1]]), who.lid), mix(deep, BLACK, 0.5), 0.0
    along = np.linspace(-1, 1, 9)
    arch = who.brow_arch * (1 - along**2)
    rise = -who.brow_height - shot.brows - arch + side * along * who.brow_length * who.brow_tilt
    brow = np.stack([x + side * 1.5 + along * who.brow_length, rise], axis=1)
    yield band(brow, who.brow_thick * (1.1 - 0.6 * (side * along + 1) / 2)), mix(who.hair, BLACK, 0.25), 0.0
    nose, mouth = who.nose_width, (side * (who.mouth_width + 4), who.mouth_height - 4)
    cheek_line = np.array([(side * nose * 1.1, who.nose_length - 3), (side * (nose + 6), who.nose_length + 6), mouth])
    yield band(cheek_line, 1.6), mix(who.skin, deep, who.fold), 0.0


def nose_parts(who: Identity) -> Iterator[Part]:
    """Bridge, tip, highlight and nostrils."""
    y, width, shade = who.nose_length, who.nose_width, who.skin * 0.8
    bridge = np.array([[-who.bridge, 0], [who.bridge, 0], [width * 0.85, y - 2], [-width * 0.85, y - 2.0]])
    light = np.array([[-who.bridge * 0.4, 1], [who.bridge * 0.4, 1], [1.6, y - 2], [-1.6, y - 2.0]])
    yield bridge, mix(who.skin, shade, 0.35), 5
    yield ellipse(0, y, width, width * 0.55), shade, 6
    yield ellipse(0, y - 1.2, width * 0.75, width * 0.5), mix(who.skin, WHITE, 0.12), 8
    yield light, mix(who.skin, WHITE, 0.15), 7
    for side in (-1, 1):
        yield ellipse(side * width * 0.5, y + width * 0.28, width * 0.24, 1.3, count=8), who.skin * 0.35, 5


def mouth_parts(who: Identity, shot: Shot) -> Iterator[Part]:
    """Moustache, lips and, where the mouth is open, teeth."""
    if who.moustache:
        along = np.linspace(-1, 1, 9)
        hairs = np.stack([along * who.mouth_width, who.mouth_height - 5 - who.upper_lip + 3 * along**2], axis=1)
        colour = mix(who.skin, who.hair, max(who.beard, 0.6))
        yield band(hairs, who.moustache * (1.2 - 0.6 * np.abs(along))), colour, 0.0
    along = np.linspace(-1, 1, 11)
    wide = who.mouth_width + 0.5 * shot.smile
    line = np.stack([along * wide, who.mouth_height - shot.smile * (along**2 - 0.4)], axis=1)
    bow = np.sqrt(np.clip(1 - along**2, 0, 1))

    def lowered(by: npt.NDArray[np.float64]) -> Points:
        return line + np.stack([np.zeros(11), by], axis=1)

    top = lowered(-who.upper_lip * bow * (1 - 0.35 * np.exp(-((along / 0.2) ** 2))))
    yield np.concatenate([top, lowered((who.lower_lip + shot.open) * bow)[::-1]]), who.lips, 0.0
    if shot.open > 0:
        yield np.concatenate([line, lowered(shot.open * bow)[::-1]]), np.array([60.0, 20, 24]), 0.0
        yield np.concatenate([line, lowered(min(shot.open, 2.6) * bow)[::-1]])[1:-1], WHITE, 0.0
    else:
        yield band(line, 0.9 * bow + 0.3), who.lips * 0.5, 0.0


def depth(points: Points, who: Identity) -> npt.NDArray[np.float64]:
    """How far the head's surface stands out at `points` (points, 2): (points,), of an ellipsoid."""
    return 32 * np.sqrt(np.clip(1 - (points[:, 0] / (who.cheek * 1.05)) ** 2 - ((points[:, 1] - 6) / 66) ** 2, 0, 1))


@functools.cache
def relief(height: int, width: int) -> npt.NDArray[np.float32]:
    """The x, y and z of a head's surface normals over a crop: (3, height, width); flat outside the head."""
    scale = height / 112
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - width / 2) / (44 * scale), (y - 62 * scale) / (66 * scale)
    z = np.sqrt(np.clip(1.15 - x**2 - y**2, 0.05, None))
    return np.asarray(np.stack([x, y, z]) / np.sqrt(x**2 + y**2 + z**2), dtype=np.float32)


@functools.cache
def noise_tile() -> npt.NDArray[np.float32]:
    """Unit noise (512, 512, 3) of which every image takes a window: three uniform draws a value, nearly normal."""
    words = np.random.PCG64(np.random.SeedSequence(0)).random_raw(512 * 512 * 3)
    halves = [(words >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32)]
    a, b, c = (half.astype(np.float32) / 65535 - 0.5 for half in halves)
    return np.asarray((a + b + c) * 2, dtype=np.float32).reshape(512, 512, 3)


def fill(canvas: Image, points: Points, colour: Colour) -> None:
    """Fills one outline (points, 2), in pixels of the canvas, with smooth edges."""
    cv2.fillPoly(canvas, [np.rint(points * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)


def aligned(who: Identity, shot: Shot) -> tuple[complex, complex]:
    """The similarity z → a·z + b, on complex numbers x + iy, that brings the turned face into an aligned crop."""
    eye, mouth, low = who.eye_gap, who.mouth_width, who.mouth_height
    marks = np.array([[-eye, 0], [eye, 0], [0, who.nose_length], [-mouth, low], [mouth, low]])
    lifted = np.concatenate([marks, (depth(marks, who) + np.array([0, 0, 8, 0, 0]))[:, None]], axis=1)
    (a, _, x), (b, _, y) = similarity_transform((lifted @ shot.turn.T)[:, :2], ARCFACE_TEMPLATE)
    return complex(a, b), complex(x, y)


def render(who: Identity, d: Draws, height: int, width: int) -> Image:
    """One image of a person: RGB uint8 (height, width, 3)."""
    shot = draw_shot(d)
    # soft patches of colour and a few shapes, out of focus
    patches = np.array([d.between(0, 255) for _ in range(27)]).reshape(3, 3, 3)
    grey = patches.mean()
    small = (grey + (patches - grey) * d.between(0.1, 0.8)).astype(np.uint8)
    canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for _ in range(d.below(3)):
        corner = (int(d.between(0, width)), int(d.between(0, height)))
        opposite = (int(d.between(0, width)), int(d.between(0, height)))
        cv2.rectangle(canvas, corner, opposite, d.colour().tolist(), cv2.FILLED)
    scale = height / 112
    a, b = aligned(who, shot)
    # the detector's own error: no two crops of a face are cut alike
    a *= (1 + d.bell(0.06)) * np.exp(1j * d.bell(0.05))
    b += complex(d.bell(2.5), d.bell(2.5))

    shoulders = np.array([[-70, 110], [-60, 82], [-18, 70], [18, 70], [60, 82], [70, 110.0]])
    parts = [(shoulders, d.colour(20, 230), BEHIND), *parts_of(who, shot)]
    if shot.glasses:
        rim = d.colour(10, 90)
        for side in (-1, 1):
            ring = ellipse(side * who.eye_gap, 1, 12, 9, count=24)
            hole = ellipse(side * who.eye_gap, 1, 10.6, 7.6, count=24)
            parts.append((np.concatenate([ring, ring[:1], hole[:1], hole[::-1]]), rim, 4))
        parts.append((np.array([[-6, -1], [6, -1], [6, 0.6], [-6, 0.6]]), rim, 5))

    flat = np.concatenate([points for points, _, _ in parts])
    lifts = np.concatenate([np.full(len(points), lift) for points, _, lift in parts])
    z = np.where(lifts == BEHIND, -8.0, np.where(lifts == RIM, 2.0, depth(flat, who) + lifts))
    turned = np.concatenate([flat, z[:, None]], axis=1) @ shot.turn.T
    placed = a * (turned[:, 0] + 1j * turned[:, 1]) + b
    pixels = np.stack([placed.real * scale + (width - 112 * scale) / 2, placed.imag * scale], axis=1)
    ends = np.cumsum([len(points) for points, _, _ in parts])
    for (_, colour, _), outline in zip(parts, np.split(pixels, ends), strict=False):
        fill(canvas, outline, np.clip(colour, 0, 255))

    if d.chance(0.25):  # something in front of the face, from the border inwards
        side = d.below(4)
        along, reach = d.between(0.1, 0.9), d.between(0.0, 0.16)
        x, y = [(reach, along), (1 - reach, along), (along, reach), (along, 1 - reach)][side]
        blob = ellipse(x * width, y * height, d.between(10, 26) * scale, d.between(10, 26) * scale, d.between(0, 3))
        fill(canvas, blob, d.colour(20, 230))
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), d.between(0.3, 1.3) * scale), dtype=np.uint8)

    direction = np.array([d.between(-0.9, 0.9), d.between(-0.8, 0.4), 0.7])
    strength = d.between(0.2, 0.8)
    towards = (direction * strength).astype(np.float32)
    light = np.tensordot(towards, relief(height, width), axes=1) + np.float32(1 - 0.55 * strength)
    tint = np.array([1 + d.bell(0.16), 1 + d.bell(0.06), 1 + d.bell(0.16)]) * d.between(0.6, 1.25)
    picture = canvas * (light[..., None] * tint.astype(np.float32)) + np.float32(d.between(-10, 30))
    row, column = d.below(512 - min(height, 511)), d.below(512 - min(width, 511))
    grain = noise_tile()[row : row + height, column : column + width]
    if grain.shape == picture.shape:
        picture += grain * np.float32(d.between(1, 7))
    if d.chance(0.1):
        picture[...] = (picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


class SyntheticFaces:
    """Synthetic faces of `identities` people, `images_per_identity` of each, one person after the other.

    An image is drawn on demand. `seed` and `split` ("train" or "test") choose the people: no person is in
    both splits or in the sets of two seeds. `image_size` is the height, or (height, width), in pixels; a width other
    than the height crops or widens the picture at both sides. InputError for fewer than 2 identities, fewer than 1
    image, an unknown split, a seed outside 32 bits or a side outside 16 to 512 pixels.
    """

    def __init__(
        self,
        identities: int = 200,
        images_per_identity: int = 40,
        seed: int = 0,
        split: str = "train",
        image_size: int | tuple[int, int] = 112,
    ) -> None:
        if identities < 2:
            raise InputError(f"expected at least 2 synthetic identities, found {identities}; ask for more")
        if images_per_identity < 1:
            raise InputError(f"expected at least 1 image of each synthetic identity, found {images_per_identity}")
        if split not in SPLITS:
            raise InputError(f"expected the split train or test, found {split!r}")
        if not 0 <= seed < 2**32:
            raise InputError(f"expected a seed from 0 to 4,294,967,295, found {seed}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if not (16 <= height <= 512 and 16 <= width <= 512):
            raise InputError(f"expected synthetic faces of 16 to 512 pixels a side, found {height}×{width}")
        self.name, self.num_classes, self.images_per_identity = "synthetic", identities, images_per_identity
        self.seed, self.split, self.size = seed, split, (height, width)
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Image:
        """Image `i` as RGB uint8 (height, width, 3); IndexError outside 0 to len − 1."""
        if not 0 <= i < len(self):
            raise IndexError(f"expected an index from 0 to {len(self) - 1}, found {i}")
        person, shot = divmod(int(i), self.images_per_identity)
        key = self.seed, SPLITS[self.split], person
        # from 1: SeedSequence takes (a, b, c) and (a, b, c, 0) for the same key
        return render(draw_identity(*key), Draws(*key, shot + 1), *self.size)

    def describe(self) -> str:
        return f"{len(self):,} images of {self.num_classes:,} identities, generated by zoo (not real faces)"


def pair_plan(pairs: int = 6000, seed: int = 0) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which test images are compared: (identities, index (pairs, 2), same (pairs,)).

    The indices belong to SyntheticFaces(identities, PAIR_IMAGES, seed, "test"). Same and different pairs alternate, so
    that folds of neighbours are balanced; no pair occurs twice, and no two people are compared twice.
    """
    if pairs < 2:
        raise InputError(f"expected at least 2 synthetic pairs, found {pairs}; ask for more")
    identities = max(pairs // 40, int(np.ceil(np.sqrt(pairs))) + 1)
    same = np.arange(pairs) % 2 == 0
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 2))))
    within = np.stack(np.triu_indices(PAIR_IMAGES, 1), axis=1)
    who, which = np.divmod(order.permutation(identities * len(within))[: same.sum()], len(within))
    index = np.empty((pairs, 2), dtype=np.int64)
    index[same] = who[:, None] * PAIR_IMAGES + within[which]
    people = np.stack(np.triu_indices(identities, 1), axis=1)
    people = people[order.permutation(len(people))[: (~same).sum()]]
    index[~same] = people * PAIR_IMAGES + order.integers(0, PAIR_IMAGES, people.shape)
    return identities, index, same


def synthetic_pairs(
    pairs: int = 6000, seed: int = 0, image_size: int | tuple[int, int] = 112
) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Pairs of synthetic faces of people who are in no training set: half of one person, half of two.

    Returns images uint8 RGB (2 · pairs, height, width, 3), those of pair i at 2i and 2i + 1, and same (pairs,) bool.
    Each test image is drawn once however many pairs show it. InputError for fewer than 2 pairs.
    """
    identities, index, same = pair_plan(pairs, seed)
    faces = SyntheticFaces(identities, PAIR_IMAGES, seed, "test", image_size)
    used, place = np.unique(index.reshape(-1), return_inverse=True)
    return np.stack([faces.image(int(i)) for i in used])[place], same
