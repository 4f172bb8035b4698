"""Quality: the blur measure against the paper's loop, and each warning for its own fault alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from zoo.faces.align import ARCFACE_TEMPLATE
from zoo.faces.quality import blur_effect, measure
from zoo.formats.images import Image


def literal_blur(grey: Image) -> float:
    """Crété et al., equations 1 to 6, pixel by pixel, away from the border."""
    x = grey.astype(np.float64)
    worst = 0.0
    for picture in (x, x.T):
        wide = np.pad(picture, ((0, 0), (4, 4)), mode="reflect")
        blurred = np.array([[row[i : i + 9].mean() for i in range(picture.shape[1])] for row in wide])
        total = lost = 0.0
        for row, blurred_row in zip(picture, blurred, strict=True):
            for i in range(1, len(row)):
                before, after = abs(row[i] - row[i - 1]), abs(blurred_row[i] - blurred_row[i - 1])
                total += before
                lost += max(0.0, before - after)
        worst = max(worst, (total - lost) / total)
    return worst


def test_the_blur_measure_is_the_papers_loop() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (21, 27), dtype=np.uint8)
    grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.3), np.uint8)
    assert blur_effect(grey) == pytest.approx(literal_blur(grey), abs=1e-5)


def edges(seed: int) -> Image:
    """Tiles of 7 pixels: 112 × 112 with sharp edges, whose blur is known."""
    tiles = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.kron(tiles, np.ones((7, 7, 1), np.uint8))


def test_blur_grows_with_the_blurring_whatever_the_contrast() -> None:
    sharp = edges(1)[..., 0]
    values = [blur_effect(np.asarray(cv2.GaussianBlur(sharp, (0, 0), s), np.uint8)) for s in (0.5, 1, 2, 3)]
    assert values == sorted(values) and values[-1] > 0.65
    assert blur_effect(sharp // 2) == pytest.approx(blur_effect(sharp), abs=0.01)
    assert blur_effect(np.full((80, 80), 7, np.uint8)) == 1.0


def warned(crop: Image, landmarks: npt.NDArray[np.float64]) -> str:
    return " ".join(measure(crop, landmarks).warnings())


def test_each_warning_answers_its_own_fault_and_no_other() -> None:
    sharp = edges(2)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 3), np.uint8)
    frontal = ARCFACE_TEMPLATE * 4 + 7
    assert warned(sharp, frontal) == ""
    assert warned(blurred, frontal).startswith("blurred (")
    assert warned(sharp, ARCFACE_TEMPLATE * 0.4).startswith("small (14 pixels")
    turned, nodding = frontal.copy(), frontal.copy()
    turned[2, 0] += 4 * 20
    nodding[2, 1] += 4 * 15
    assert warned(sharp, turned).startswith("turned sideways (")
    assert warned(sharp, nodding).startswith("pitched up or down (")


def test_tilting_the_head_alone_is_no_fault() -> None:
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sharp = np.random.default_rng(2).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    tilted, upright = measure(sharp, 3 * ARCFACE_TEMPLATE @ rotation.T), measure(sharp, 3 * ARCFACE_TEMPLATE)
    assert tilted.turn == pytest.approx(upright.turn, abs=1e-9)
    assert tilted.nod == pytest.approx(upright.nod, abs=1e-9)


def test_a_dark_face_is_called_dark_and_the_same_face_in_light_is_not() -> None:
    light = np.full((112, 112, 3), 120, np.uint8)
    light[::2] = 140
    assert measure(light).brightness == pytest.approx(130)
    assert not [warning for warning in measure(light).warnings() if "dark" in warning]
    assert "dark (mean grey level 16 of 255, at least 35 wanted)" in measure(light // 8).warnings()


@pytest.mark.parametrize(("shift", "share"), [((0, 0), 0.0), ((-56, 0), 0.5), ((0, 40), 0.444), ((-200, 0), 1.0)])
def test_the_share_of_a_face_outside_the_picture_is_measured(shift: tuple[int, int], share: float) -> None:
    landmarks = ARCFACE_TEMPLATE + shift
    found = measure(edges(1), landmarks, (112, 112))
    assert found.cut == pytest.approx(share, abs=0.02)
    assert any("cut off by the picture's border" in warning for warning in found.warnings()) == (share > 0.05)
    assert measure(edges(1), landmarks).cut is None
