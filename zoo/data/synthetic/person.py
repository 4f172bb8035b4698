"""Who is drawn, and in which moment: the traits of an identity and what varies between its images."""

import functools
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""Points (points, 2): x to the right, y down, in pixels of a 112-pixel crop, from the middle between the eyes."""
Colour = npt.NDArray[np.float64]  #: (red, green, blue) between 0 and 255, shape (3,)


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


def between(low: float, high: float) -> Any:
    """A measure that is drawn from [low, high)."""
    return field(metadata={"between": (low, high)})


@dataclass(frozen=True)
class Identity:
    """What stays the same in every image of a person; lengths in pixels of a 112-pixel crop."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    bald: bool
    beard: float  # share of the hair's colour in the beard, 0 for none
    beard_line: float  # where the beard begins, below the eyes
    moustache: float  # thickness
    moles: Points  # (moles, 2)
    fold: float  # depth of the line from nose to mouth
    cheek: float = between(30, 41)  # half the width of the head
    crown: float = between(44, 56)  # the top of the skull above the eyes
    chin: float = between(52, 68)  # the chin below the eyes
    jaw: float = between(0.5, 1.15)  # exponent of the jaw line: small is square, large is pointed
    taper: float = between(0.0, 0.22)  # how much narrower the jaw is
    eye_gap: float = between(14.5, 20)  # half the distance of the pupils
    eye_width: float = between(5.6, 9)
    eye_height: float = between(2.6, 5.6)
    eye_tilt: float = between(-0.22, 0.22)  # radians
    iris_size: float = between(2.5, 3.9)
    lid: float = between(0.8, 2.6)  # thickness of the upper lid's line
    brow_height: float = between(7, 14.5)  # above the eye
    brow_length: float = between(7, 12)
    brow_thick: float = between(1.4, 5)
    brow_arch: float = between(-1, 4.5)
    brow_tilt: float = between(-0.28, 0.28)
    nose_length: float = between(15.5, 26)
    nose_width: float = between(4.5, 10.5)
    bridge: float = between(1.8, 4.6)
    mouth_height: float = between(34, 46)  # below the eyes
    mouth_width: float = between(9.5, 18)
    upper_lip: float = between(1.2, 4.2)
    lower_lip: float = between(1.8, 5.6)
    ear_size: float = between(6, 12)
    ear_height: float = between(0, 14)
    hairline: float = between(22, 42)  # above the eyes
    parting: float = between(-0.8, 0.8)  # x of the parting as a fraction of the cheek
    fringe: float = between(-6, 22)  # how far the hair falls from the parting to the temples
    waves: float = between(0, 3)
    volume: float = between(2, 11)
    hair_length: float = between(-60, 75)  # below the eyes; negative is above the ears


@functools.lru_cache(maxsize=4096)
def draw_identity(*key: int) -> Identity:
    """The person of a key; the same in every image."""
    d = Draws(*key)
    tone = d.between(0, 1)
    skin = mix(np.array([238.0, 196, 168]), np.array([118.0, 78, 58]), tone) + d.bell(14) * np.array([0.4, 1, -0.6])
    hairs = np.array([[38.0, 30, 28], [84, 54, 34], [150, 104, 58], [204, 168, 104], [142, 62, 36], [150, 148, 146]])
    hair = mix(hairs[d.below(6)], hairs[d.below(6)], d.between(0, 0.6))
    irises = np.array([[70.0, 44, 26], [64, 106, 140], [84, 116, 70], [120, 92, 44], [104, 112, 118]])
    beard = d.between(0.25, 0.9) if d.chance(0.3) else 0.0
    iris = mix(irises[d.below(5)], irises[d.below(5)], d.between(0, 0.5))
    lips = mix(mix(skin, np.array([176.0, 50, 62]), d.between(0.25, 0.75)), np.array([90.0, 40, 40]), tone * 0.4)
    traits: dict[str, Any] = {one.name: d.between(*one.metadata["between"]) for one in fields(Identity) if one.metadata}
    bald, beard_line = d.chance(0.1), d.between(20, 46)
    moustache = d.between(1.5, 5) if beard or d.chance(0.1) else 0.0
    moles = np.array([[d.between(-22, 22), d.between(8, 44)] for _ in range(d.below(4))]).reshape(-1, 2)
    return Identity(skin, hair, iris, lips, bald, beard, beard_line, moustache, moles, d.between(0, 0.4), **traits)


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
    return np.asarray(lean @ side @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]))


def draw_shot(d: Draws) -> Shot:
    """A moment, from uniform draws."""
    turn = rotation(d.bell(0.5), d.bell(0.28), d.bell(0.12))
    smile, opened, eyes = d.between(-2.5, 5), max(0.0, d.between(-5, 6)), d.between(0.6, 1.1)
    gaze = d.between(-1.8, 1.8), d.between(-0.8, 0.8)
    return Shot(turn, smile, opened, eyes, gaze, brows=d.between(-1.5, 2), glasses=d.chance(0.15))
