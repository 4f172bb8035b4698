"""Drawn faces: a set to try the whole product on without a download, a licence or a person.

An identity is a geometry and a palette (head, jaw, eyes, brows, nose, mouth, ears, hair, beard, moles); an image of
it adds what must not matter: pose, expression, light, white balance, background, clothes, glasses, something in front
of the face, blur and noise. The head is a solid that turns in three dimensions and is then aligned by its five
landmarks, as crops of photographs are.

Every number comes from its own generator, PCG64 seeded by SeedSequence((seed, split, identity[, image + 1])), read
as raw 64-bit words: NumPy promises that both streams stay as they are. So image i is the same in every process, on
every machine and in any order (but for a level or two where another OpenCV rounds otherwise), and the training and
the test split share no identity.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError

Image = npt.NDArray[np.uint8]
"""RGB uint8 of shape (height, width, 3)."""
Points = npt.NDArray[np.float64]
"""Points (points, 2): x to the right, y down, in pixels of a 112-pixel crop, from the middle between the eyes."""
Colour = npt.NDArray[np.float64]
"""(red, green, blue) between 0 and 255, shape (3,)."""

SPLITS = {"train": 0, "test": 1}

LANDMARKS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eyes, nose tip and mouth corners of an aligned 112×112 crop (ArcFace's template), the viewer's left first."""


class Draws:
    """Uniform draws that depend on a key alone."""

    def __init__(self, *key: int) -> None:
        words = np.random.PCG64(np.random.SeedSequence(key)).random_raw(128)
        self._values = iter(((words >> np.uint64(11)) * 2.0**-53).tolist())

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(next(self._values))

    def bell(self, spread: float) -> float:
        """A number in (−spread, spread), small ones more often (the sum of two uniform ones)."""
        return spread * (self.between(-1, 1) + self.between(-1, 1)) / 2

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.between(0, 1) < probability

    def below(self, count: int) -> int:
        """An integer from 0 to count − 1."""
        return min(int(self.between(0, count)), count - 1)

    def colour(self, low: float = 0, high: float = 255) -> Colour:
        """A colour whose channels lie in [low, high)."""
        return np.array([self.between(low, high) for _ in range(3)])


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of `b` in `a`."""
    return a + (b - a) * share


@functools.cache
def circle(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosine and sine of `count` angles once around."""
    angles = np.arange(count) * (2 * np.pi / count)
    return np.cos(angles), np.sin(angles)


def ellipse(x: float, y: float, width: float, height: float, tilt: float = 0.0, count: int = 16) -> Points:
    """An ellipse of half axes `width` and `height`, turned by `tilt` radians: (count, 2)."""
    cos, sin = circle(count)
    across, down = width * cos, height * sin
    return np.stack(
        [x + across * np.cos(tilt) - down * np.sin(tilt), y + across * np.sin(tilt) + down * np.cos(tilt)], axis=1
    )


def band(spine: Points, thickness: npt.NDArray[np.float64] | float) -> Points:
    """The outline of a stroke along `spine` (points, 2), `thickness` pixels high: (2 · points, 2)."""
    half = np.zeros_like(spine)
    half[:, 1] = np.asarray(thickness) / 2
    return np.concatenate([spine - half, (spine + half)[::-1]])


@dataclass(frozen=True)
class Identity:
    """What stays the same in every image of a person; lengths in pixels of a 112-pixel crop."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    cheek: float  # half the width of the head
    crown: float  # the top of the skull above the eyes
    chin: float  # the chin below the eyes
    jaw: float  # exponent of the jaw line: small is square, large is pointed
    taper: float  # how much narrower the jaw is
    eye_gap: float  # half the distance of the pupils
    eye_width: float
    eye_height: float
    eye_tilt: float  # radians
    iris_size: float
    lid: float  # thickness of the upper lid's line
    brow_height: float  # above the eye
    brow_length: float
    brow_thick: float
    brow_arch: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    bridge: float
    mouth_height: float  # below the eyes
    mouth_width: float
    upper_lip: float
    lower_lip: float
    ear_size: float
    ear_height: float
    hairline: float  # above the eyes
    parting: float  # x of the parting as a fraction of the cheek
    fringe: float  # how far the hair falls from the parting to the temples
    waves: float
    volume: float
    hair_length: float  # below the eyes; negative is above the ears
    bald: bool
    beard: float  # share of the hair's colour in the beard, 0 for none
    beard_line: float  # where the beard begins, below the eyes
    moustache: float  # thickness
    moles: Points  # (moles, 2)
    fold: float  # depth of the line from nose to mouth


def draw_identity(draws: Draws) -> Identity:
    """A person, from uniform draws."""
    d = draws
    tone = d.between(0, 1)
    skin = mix(np.array([238.0, 196, 168]), np.array([118.0, 78, 58]), tone) + d.bell(14) * np.array([0.4, 1, -0.6])
    hairs = np.array([[38.0, 30, 28], [84, 54, 34], [150, 104, 58], [204, 168, 104], [142, 62, 36], [150, 148, 146]])
    hair = mix(hairs[d.below(6)], hairs[d.below(6)], d.between(0, 0.6))
    irises = np.array([[70.0, 44, 26], [64, 106, 140], [84, 116, 70], [120, 92, 44], [104, 112, 118]])
    beard = d.between(0.25, 0.9) if d.chance(0.3) else 0.0
    return Identity(
        skin=skin,
        hair=hair,
        iris=mix(irises[d.below(5)], irises[d.below(5)], d.between(0, 0.5)),
        lips=mix(mix(skin, np.array([176.0, 50, 62]), d.between(0.25, 0.75)), np.array([90.0, 40, 40]), tone * 0.4),
        cheek=d.between(30, 41),
        crown=d.between(44, 56),
        chin=d.between(52, 68),
        jaw=d.between(0.5, 1.15),
        taper=d.between(0.0, 0.22),
        eye_gap=d.between(14.5, 20),
        eye_width=d.between(5.6, 9),
        eye_height=d.between(2.6, 5.6),
        eye_tilt=d.between(-0.22, 0.22),
        iris_size=d.between(2.5, 3.9),
        lid=d.between(0.8, 2.6),
        brow_height=d.between(7, 14.5),
        brow_length=d.between(7, 12),
        brow_thick=d.between(1.4, 5),
        brow_arch=d.between(-1, 4.5),
        brow_tilt=d.between(-0.28, 0.28),
        nose_length=d.between(15.5, 26),
        nose_width=d.between(4.5, 10.5),
        bridge=d.between(1.8, 4.6),
        mouth_height=d.between(34, 46),
        mouth_width=d.between(9.5, 18),
        upper_lip=d.between(1.2, 4.2),
        lower_lip=d.between(1.8, 5.6),
        ear_size=d.between(6, 12),
        ear_height=d.between(0, 14),
        hairline=d.between(22, 42),
        parting=d.between(-0.8, 0.8),
        fringe=d.between(-6, 22),
        waves=d.between(0, 3),
        volume=d.between(2, 11),
        hair_length=d.between(-60, 75),
        bald=d.chance(0.1),
        beard=beard,
        beard_line=d.between(20, 46),
        moustache=d.between(1.5, 5) if beard or d.chance(0.1) else 0.0,
        moles=np.array([[d.between(-22, 22), d.between(8, 44)] for _ in range(d.below(4))]).reshape(-1, 2),
        fold=d.between(0, 0.4),
    )


def head_outline(who: Identity, count: int = 48) -> Points:
    """The outline of the bare head: (count, 2), clockwise from the right temple."""
    cos, sin = circle(count)
    below = np.clip(sin, 0, None)
    width = np.where(sin > 0, np.abs(cos) ** who.jaw * (1 - who.taper * below**2), np.abs(cos) ** 0.85)
    return np.stack([np.sign(cos) * width * who.cheek, np.where(sin > 0, who.chin, who.crown) * sin], axis=1)


def hair_front(who: Identity) -> Points:
    """The hair above the forehead: skull cap outside, hairline inside: (points, 2)."""
    angles = np.linspace(np.pi, 2 * np.pi, 17)
    cap = np.stack(
        [(who.cheek + who.volume * 0.6) * np.cos(angles), (who.crown + who.volume) * np.sin(angles) - 2], axis=1
    )
    x = np.linspace(1, -1, 17)
    fall = who.fringe * np.abs(x - who.parting) ** 1.5 + 3 * who.waves * np.sin(9 * x) * 0.3
    edge = np.stack([x * who.cheek * 0.96, np.minimum(-who.hairline + fall + 14 * x**8, -4)], axis=1)
    return np.concatenate([cap, edge])


@dataclass(frozen=True)
class Shot:
    """What differs between two images of a person."""

    turn: npt.NDArray[np.float64]  # rotation matrix (3, 3)
    smile: float
    open: float  # how far the mouth is open, pixels
    eyes: float  # how far the eyes are open, fraction
    gaze: tuple[float, float]
    brows: float  # raised by, pixels
    glasses: bool


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """The matrix (3, 3) that nods by `pitch`, then turns by `yaw`, then leans by `roll` radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    side = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn: npt.NDArray[np.float64] = lean @ side @ nod
    return turn


def draw_shot(draws: Draws) -> Shot:
    """A moment, from uniform draws."""
    d = draws
    return Shot(
        turn=rotation(d.bell(0.5), d.bell(0.28), d.bell(0.12)),
        smile=d.between(-2.5, 5),
        open=max(0.0, d.between(-5, 6)),
        eyes=d.between(0.6, 1.1),
        gaze=(d.between(-1.8, 1.8), d.between(-0.8, 0.8)),
        brows=d.between(-1.5, 2),
        glasses=d.chance(0.15),
    )


Part = tuple[Points, Colour, float]
"""A filled outline: points (points, 2), colour, and how far it stands off the head's surface."""


def parts_of(who: Identity, shot: Shot) -> list[Part]:
    """The face as filled outlines, the ones behind first; `BEHIND` as depth means the plane through the ears."""
    black = np.zeros(3)
    white = np.array([236.0, 232, 226])
    shade, deep = who.skin * 0.8, who.skin * 0.55
    parts: list[Part] = []

    def add(points: Points, colour: Colour, lift: float = 0.0) -> None:
        parts.append((points, colour, lift))

    if not who.bald:
        back = ellipse(0, -6, who.cheek + who.volume * 0.8, who.crown + who.volume, count=32)
        below = back[:, 1] > 0
        back[below, 0] = np.sign(back[below, 0]) * (who.cheek + who.volume * 0.8)
        back[below, 1] *= max(who.hair_length, 0) / (who.crown + who.volume)
        add(back, who.hair * 0.8, BEHIND)
    add(np.array([[-17, 30], [17, 30], [22, 90], [-22, 90.0]]), who.skin * 0.72, BEHIND)
    for side in (-1, 1):
        ear = (side * (who.cheek + 1), who.ear_height)
        add(ellipse(*ear, who.ear_size * 0.5, who.ear_size, side * 0.2), shade, BEHIND)
        add(ellipse(*ear, who.ear_size * 0.25, who.ear_size * 0.6, side * 0.2), deep, BEHIND)
    head = head_outline(who)
    add(head, who.skin, RIM)
    if who.beard:
        low = head[(head[:, 1] > who.beard_line)]
        dip = np.stack(
            [np.linspace(low[-1, 0], low[0, 0], 9), who.beard_line + 12 * np.sin(np.linspace(0, np.pi, 9))], 1
        )
        add(np.concatenate([low, dip]), mix(who.skin, who.hair, who.beard), RIM)

    nose_y, width = who.nose_length, who.nose_width
    for side in (-1, 1):
        x = side * who.eye_gap
        add(ellipse(x, 0.5, who.eye_width * 1.25, who.eye_height * 1.6, side * who.eye_tilt), shade)
        opening = who.eye_height * shot.eyes
        lid = ellipse(x, 0, who.eye_width, opening, side * who.eye_tilt)
        add(lid, white)
        gaze_x, gaze_y = x + shot.gaze[0], shot.gaze[1]
        iris = min(who.iris_size, opening + 0.6)
        add(ellipse(gaze_x, gaze_y, who.iris_size, iris), who.iris)
        add(ellipse(gaze_x, gaze_y, who.iris_size * 0.45, iris * 0.45, count=8), black)
        add(ellipse(gaze_x - 1, gaze_y - 1, 0.7, 0.7, count=8), white)
        add(band(np.concatenate([lid[8:], lid[:1]]), who.lid), mix(deep, black, 0.5))

        along = np.linspace(-1, 1, 9)
        brow = np.stack(
            [
                x + side * 1.5 + along * who.brow_length,
                -who.brow_height
                - shot.brows
                - who.brow_arch * (1 - along**2)
                + side * along * who.brow_length * who.brow_tilt,
            ],
            axis=1,
        )
        add(band(brow, who.brow_thick * (1.1 - 0.6 * (side * along + 1) / 2)), mix(who.hair, black, 0.25))
        cheek_line = np.array(
            [
                [side * width * 1.1, nose_y - 3],
                [side * (width + 6), nose_y + 6],
                [side * (who.mouth_width + 4), who.mouth_height - 4],
            ]
        )
        add(band(cheek_line, 1.6), mix(who.skin, deep, who.fold))

    bridge = np.array([[-who.bridge, 0], [who.bridge, 0], [width * 0.85, nose_y - 2], [-width * 0.85, nose_y - 2.0]])
    add(bridge, mix(who.skin, shade, 0.35), 5)
    add(ellipse(0, nose_y, width, width * 0.55), shade, 6)
    add(ellipse(0, nose_y - 1.2, width * 0.75, width * 0.5), mix(who.skin, white, 0.12), 8)
    add(
        np.array([[-who.bridge * 0.4, 1], [who.bridge * 0.4, 1], [1.6, nose_y - 2], [-1.6, nose_y - 2.0]]),
        mix(who.skin, white, 0.15),
        7,
    )
    for side in (-1, 1):
        add(ellipse(side * width * 0.5, nose_y + width * 0.28, width * 0.24, 1.3, count=8), who.skin * 0.35, 5)

    if who.moustache:
        along = np.linspace(-1, 1, 9)
        hairs = np.stack([along * who.mouth_width, who.mouth_height - 5 - who.upper_lip + 3 * along**2], axis=1)
        add(band(hairs, who.moustache * (1.2 - 0.6 * np.abs(along))), mix(who.skin, who.hair, max(who.beard, 0.6)))
    along = np.linspace(-1, 1, 11)
    wide = who.mouth_width + 0.5 * shot.smile
    line = np.stack([along * wide, who.mouth_height - shot.smile * (along**2 - 0.4)], axis=1)
    bow = np.sqrt(np.clip(1 - along**2, 0, 1))
    top, bottom = line.copy(), line.copy()
    top[:, 1] -= who.upper_lip * bow * (1 - 0.35 * np.exp(-((along / 0.2) ** 2)))
    bottom[:, 1] += (who.lower_lip + shot.open) * bow
    add(np.concatenate([top, bottom[::-1]]), who.lips)
    if shot.open > 0:
        gap = line.copy()
        gap[:, 1] += shot.open * bow
        add(np.concatenate([line, gap[::-1]]), np.array([60.0, 20, 24]))
        teeth = line.copy()
        teeth[:, 1] += np.minimum(shot.open, 2.6) * bow
        add(np.concatenate([line, teeth[::-1]])[1:-1], white)
    else:
        add(band(line, 0.9 * bow + 0.3), who.lips * 0.5)

    for mole in who.moles:
        add(ellipse(float(mole[0]), float(mole[1]), 1.4, 1.4, count=8), deep * 0.6)
    if not who.bald:
        add(hair_front(who), who.hair, 2)
    return parts


BEHIND, RIM = -100.0, -50.0


def depth(points: Points, who: Identity) -> npt.NDArray[np.float64]:
    """How far the head's surface stands out at `points` (points, 2): (points,), of an ellipsoid."""
    inside = 1 - (points[:, 0] / (who.cheek * 1.05)) ** 2 - ((points[:, 1] - 6) / 66) ** 2
    return 32 * np.sqrt(np.clip(inside, 0, 1))


def align(landmarks: Points) -> tuple[complex, complex]:
    """The similarity z → a·z + b, on complex numbers x + iy, that takes landmarks (5, 2) closest to the template."""
    source = landmarks[:, 0] + 1j * landmarks[:, 1]
    target = LANDMARKS[:, 0] + 1j * LANDMARKS[:, 1]
    centred = source - source.mean()
    a = complex(np.vdot(centred, target - target.mean()) / np.vdot(centred, centred))
    return a, complex(target.mean() - a * source.mean())


@functools.cache
def relief(height: int, width: int) -> npt.NDArray[np.float32]:
    """The x, y and z of a head's surface normals over a crop: (3, height, width); flat outside the head."""
    scale = height / 112
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = (x - width / 2) / (44 * scale)
    y = (y - 62 * scale) / (66 * scale)
    z = np.sqrt(np.clip(1.15 - x**2 - y**2, 0.05, None))
    normals = np.stack([x, y, z]) / np.sqrt(x**2 + y**2 + z**2)
    return np.asarray(normals, dtype=np.float32)


@functools.cache
def noise_tile() -> npt.NDArray[np.float32]:
    """Unit noise (512, 512, 3) of which every image takes a window: three uniform draws a value, nearly normal."""
    words = np.random.PCG64(np.random.SeedSequence(0)).random_raw(512 * 512 * 3)
    parts = [
        ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32) / 65535 - 0.5 for shift in (0, 16, 32)
    ]
    tile = np.asarray((parts[0] + parts[1] + parts[2]) * 2, dtype=np.float32)
    return tile.reshape(512, 512, 3)


def draw_background(draws: Draws, height: int, width: int) -> Image:
    """Soft patches of colour and a few shapes, out of focus."""
    patches = np.array([draws.between(0, 255) for _ in range(27)]).reshape(3, 3, 3)
    grey = patches.mean()
    small = (grey + (patches - grey) * draws.between(0.1, 0.8)).astype(np.uint8)
    canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for _ in range(draws.below(3)):
        corner = (int(draws.between(0, width)), int(draws.between(0, height)))
        reach = (int(draws.between(0, width)), int(draws.between(0, height)))
        cv2.rectangle(canvas, corner, reach, draws.colour().tolist(), cv2.FILLED)
    return canvas


def fill(canvas: Image, points: Points, colour: Colour) -> None:
    """Fills one outline (points, 2), in pixels of the canvas, with smooth edges."""
    fixed = np.rint(points * 16).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], colour.tolist(), cv2.LINE_AA, 4)


def render(who: Identity, draws: Draws, height: int, width: int) -> Image:
    """One image of a person: RGB uint8 (height, width, 3)."""
    d = draws
    shot = draw_shot(d)
    canvas = draw_background(d, height, width)
    scale = height / 112

    marks = np.array(
        [
            [-who.eye_gap, 0],
            [who.eye_gap, 0],
            [0, who.nose_length],
            [-who.mouth_width, who.mouth_height],
            [who.mouth_width, who.mouth_height],
        ]
    )
    lifted = np.concatenate([marks, (depth(marks, who) + np.array([0, 0, 8, 0, 0]))[:, None]], axis=1)
    a, b = align((lifted @ shot.turn.T)[:, :2])
    # the detector's own error: no two crops of a face are cut alike
    a *= (1 + d.bell(0.06)) * np.exp(1j * d.bell(0.05))
    b += complex(d.bell(2.5), d.bell(2.5))

    parts = parts_of(who, shot)
    clothes = d.colour(20, 230)
    parts.insert(0, (np.array([[-70, 110], [-60, 82], [-18, 70], [18, 70], [60, 82], [70, 110.0]]), clothes, BEHIND))
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
    start = 0
    for points, colour, _ in parts:
        fill(canvas, pixels[start : start + len(points)], np.clip(colour, 0, 255))
        start += len(points)

    if d.chance(0.25):  # something in front of the face, from the border inwards
        side = d.below(4)
        along, reach = d.between(0.1, 0.9), d.between(0.0, 0.16)
        x, y = [(reach, along), (1 - reach, along), (along, reach), (along, 1 - reach)][side]
        blob = ellipse(x * width, y * height, d.between(10, 26) * scale, d.between(10, 26) * scale, d.between(0, 3))
        fill(canvas, blob, d.colour(20, 230))

    softness = d.between(0.3, 1.3) * scale
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), softness), dtype=np.uint8)

    direction = np.array([d.between(-0.9, 0.9), d.between(-0.8, 0.4), 0.7])
    strength = d.between(0.2, 0.8)
    normals = relief(height, width)
    light = np.tensordot((direction * strength).astype(np.float32), normals, axes=1) + np.float32(1 - 0.55 * strength)
    tint = np.array([1 + d.bell(0.16), 1 + d.bell(0.06), 1 + d.bell(0.16)]) * d.between(0.6, 1.25)
    offset = d.between(-10, 30)
    picture = canvas * (light[..., None] * tint.astype(np.float32)) + np.float32(offset)
    row, column = d.below(512 - min(height, 511)), d.below(512 - min(width, 511))
    grain = noise_tile()[row : row + height, column : column + width]
    if grain.shape == picture.shape:
        picture += grain * np.float32(d.between(1, 7))
    if d.chance(0.1):
        picture[...] = (picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


class SyntheticFaces:
    """Drawn faces of `identities` people, `images_per_identity` of each, one person after the other.

    An image is drawn when it is asked for. `seed` and `split` ("train" or "test") choose the people: no person is in
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
        self.name = "synthetic"
        self.num_classes = identities
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.split = split
        self.size = (height, width)
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Image:
        """Image `i` as RGB uint8 (height, width, 3); IndexError outside 0 to len − 1."""
        if not 0 <= i < len(self):
            raise IndexError(f"expected an index from 0 to {len(self) - 1}, found {i}")
        person, shot = divmod(int(i), self.images_per_identity)
        who = identity_of(self.seed, SPLITS[self.split], person)
        # from 1: SeedSequence takes (a, b, c) and (a, b, c, 0) for the same key
        return render(who, Draws(self.seed, SPLITS[self.split], person, shot + 1), *self.size)

    def describe(self) -> str:
        """E.g. "8,000 images of 200 identities, drawn by zoo (not real faces)"."""
        return f"{len(self):,} images of {self.num_classes:,} identities, drawn by zoo (not real faces)"


@functools.lru_cache(maxsize=4096)
def identity_of(seed: int, split: int, person: int) -> Identity:
    """The person of this number; the same in every image."""
    return draw_identity(Draws(seed, split, person))


def pair_plan(pairs: int = 6000, seed: int = 0) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which test images are compared: (identities, index (pairs, 2), same (pairs,)).

    The indices belong to SyntheticFaces(identities, PAIR_IMAGES, seed, "test"). Same and different pairs
    alternate, so that folds of neighbours are balanced; no pair occurs twice, and no two different-person pairs
    show the same two people.
    """
    if pairs < 2:
        raise InputError(f"expected at least 2 synthetic pairs, found {pairs}; ask for more")
    identities = max(pairs // 40, int(np.ceil(np.sqrt(pairs))) + 1)
    same = np.arange(pairs) % 2 == 0
    positives, negatives = int(same.sum()), int((~same).sum())
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 2))))
    first, second = np.triu_indices(PAIR_IMAGES, 1)
    chosen = order.permutation(identities * len(first))[:positives]
    who, which = np.divmod(chosen, len(first))
    index = np.empty((pairs, 2), dtype=np.int64)
    index[same] = np.stack([who * PAIR_IMAGES + first[which], who * PAIR_IMAGES + second[which]], axis=1)
    one, other = np.triu_indices(identities, 1)
    chosen = order.permutation(len(one))[:negatives]
    people = np.stack([one[chosen], other[chosen]], axis=1)
    index[~same] = people * PAIR_IMAGES + order.integers(0, PAIR_IMAGES, (negatives, 2))
    return identities, index, same


PAIR_IMAGES = 10
"""Images of each test identity among the pairs."""


def synthetic_pairs(
    pairs: int = 6000, seed: int = 0, image_size: int | tuple[int, int] = 112
) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Pairs of drawn faces of people who are in no training set: half of one person, half of two.

    Returns images uint8 RGB (2 · pairs, height, width, 3), those of pair i at 2i and 2i + 1, and same (pairs,) bool.
    Each test image is drawn once however many pairs show it. InputError for fewer than 2 pairs.
    """
    identities, index, same = pair_plan(pairs, seed)
    faces = SyntheticFaces(identities, PAIR_IMAGES, seed, "test", image_size)
    used, place = np.unique(index.reshape(-1), return_inverse=True)
    drawn = np.stack([faces.image(int(i)) for i in used])
    return drawn[place], same


def contact_sheet(faces: SyntheticFaces, people: int = 8, images: int = 8) -> Image:
    """A picture to look at, one person a row: RGB uint8 (people · height, images · width, 3)."""
    people, images = min(people, faces.num_classes), min(images, faces.images_per_identity)
    step = faces.images_per_identity
    rows = [np.concatenate([faces.image(p * step + i) for i in range(images)], axis=1) for p in range(people)]
    return np.concatenate(rows)
