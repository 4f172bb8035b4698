"""How large, how sharp and how frontal a face is, by measurement."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from zoo.faces.align import ARCFACE_TEMPLATE, similarity_transform

LEAST_EYE_DISTANCE = 18.0  #: Pixels: below it, alignment enlarges the face more than twofold (35.2 in the template)
MOST_BLUR = 0.62  #: Above it a crop is blurred; `benchmarks/verify.py --quality DATA` prints where real crops lie
MOST_TURN = 0.3  #: Above it a head is called turned sideways; the same command prints where real crops lie
LEAST_BRIGHTNESS = 35.0  #: Grey levels of 255: a darker face is dark; the same command prints where crops lie
MOST_CUT = 0.05  #: The share of a face's middle that may lie outside the picture
NOD_RANGE = (0.42, 0.74)  #: Outside it a head is called pitched up or down; the frontal template has 0.495


@dataclass(frozen=True)
class Quality:
    """The measures of one face; those that need landmarks are None for a picture that was an aligned crop already."""

    blur: float  #: Crété et al., "The blur effect" (SPIE 6492, 2007), of the crop's middle: 0 sharp … 1 blurred
    eye_distance: float | None = None  #: Pixels between the eyes in the photo
    turn: float | None = None  #: How far the nose lies right of the midline of eyes and mouth, in eye distances
    nod: float | None = None  #: Where the nose lies between the eyes (0) and the mouth (1)
    brightness: float = 255.0  #: The mean grey level of the crop's middle, 0 to 255
    cut: float | None = None  #: The share of the face that lies outside the picture, 0 to 1

    def warnings(self) -> list[str]:
        """The face's faults, one clause each with its measure; empty where there are none."""
        found = []
        eyes, turn, (low, high) = self.eye_distance, self.turn, NOD_RANGE
        if eyes is not None and eyes < LEAST_EYE_DISTANCE:
            found.append(f"small ({eyes:.0f} pixels between the eyes, at least {LEAST_EYE_DISTANCE:.0f} wanted)")
        if self.blur > MOST_BLUR:
            found.append(f"blurred ({self.blur:.2f} on a scale from 0 to 1, at most {MOST_BLUR} wanted)")
        if self.brightness < LEAST_BRIGHTNESS:
            found.append(f"dark (mean grey level {self.brightness:.0f} of 255, at least {LEAST_BRIGHTNESS:.0f} wanted)")
        if self.cut is not None and self.cut > MOST_CUT:
            found.append(f"cut off by the picture's border ({self.cut:.0%} of it lies outside)")
        if turn is not None and abs(turn) > MOST_TURN:
            found.append(f"turned sideways (nose {abs(turn):.2f} eye distances off the midline, {MOST_TURN} at most)")
        if self.nod is not None and not low <= self.nod <= high:
            found.append(f"pitched up or down (nose at {self.nod:.2f} from eyes to mouth, {low} to {high} wanted)")
        return found


def measure(
    crop: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float64] | None = None, size: tuple[int, int] | None = None
) -> Quality:
    """The quality of a face by its aligned crop, RGB uint8 (H, W, 3), and its (5, 2) landmarks in the photo.

    `size` is the photo's (height, width); without it nothing is said of what lies outside.
    """
    if crop.shape[0] != 112:
        crop = np.asarray(cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA), np.uint8)
    # where there is face and neither background nor black border
    middle = np.asarray(cv2.cvtColor(crop[16:96, 16:96], cv2.COLOR_RGB2GRAY), np.uint8)
    blur, brightness = blur_effect(middle), float(middle.mean())
    if landmarks is None:
        return Quality(blur, brightness=brightness)
    matrix = similarity_transform(landmarks, ARCFACE_TEMPLATE)
    left, right, nose, mouth_left, mouth_right = landmarks @ matrix[:, :2].T + matrix[:, 2]
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    distance, height = float(np.linalg.norm(right - left)), float(mouth[1] - eyes[1])
    apart = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    turn = float(nose[0] - (eyes[0] + mouth[0]) / 2) / max(distance, 1e-6)
    nod = float(nose[1] - eyes[1]) / height if height > 0 else 0.0
    if size is None:
        return Quality(blur, apart, turn, nod, brightness)
    back = similarity_transform(ARCFACE_TEMPLATE, landmarks)
    face = np.stack(np.meshgrid(np.arange(24.5, 88), np.arange(32.5, 104)), -1).reshape(-1, 2)  # from brows to chin
    points = face @ back[:, :2].T + back[:, 2]
    outside = ((points < -0.5) | (points > np.array(size[::-1]) - 0.5)).any(axis=1)
    return Quality(blur, apart, turn, nod, brightness, float(outside.mean()))


def blur_effect(grey: npt.NDArray[np.uint8], window: int = 9) -> float:
    """How little a picture (H, W) changes when it is blurred once more: 0 sharp … 1 blurred, and 1 for a uniform one.

    Per axis, 1 − Σ max(0, |∇x| − |∇ blurred x|) / Σ |∇x| with a mean over `window` pixels; the worse axis counts
    (Crété et al. 2007, equations 1 to 6). Contrast cancels out.
    """
    x, worst = grey.astype(np.float32), 0.0
    for axis, kernel in ((1, (window, 1)), (0, (1, window))):
        variation = np.abs(np.diff(x, axis=axis))
        left = np.abs(np.diff(cv2.blur(x, kernel), axis=axis))
        total = float(variation.sum())
        worst = max(worst, 1 - float(np.maximum(0, variation - left).sum()) / total if total > 0 else 1.0)
    return worst
