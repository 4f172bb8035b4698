"""Whether red and blue are where they belong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from zoo.evaluate.benchmarks.channel_check import channel_means, look
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.modelinfo import InputSpec

Array = npt.NDArray[np.uint8]

GOLDEN_MEANS = (166.5, 124.5, 97.5)
"""The means of red, green and blue over `golden()`."""


def golden() -> Array:
    """A face of skin colour on a dark red ground, drawn by whole numbers: RGB uint8 (112, 112, 3)."""
    picture = np.empty((112, 112, 3), np.uint8)
    picture[:] = 120, 60, 45
    picture[28:84] = 213, 189, 150
    return picture


class Squares:
    """Pictures by a function of their number."""

    def __init__(self, draw: Callable[[int], Array], count: int = 20) -> None:
        self.draw, self.count = draw, count

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Array:
        return self.draw(index)


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_a_drawn_picture_keeps_its_colours_from_file_to_input(encode: Callable[[Array], bytes]) -> None:
    picture = decode(encode(golden()), "golden")
    means = picture.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(means, GOLDEN_MEANS, atol=1.5)
    assert np.abs(means[::-1] - GOLDEN_MEANS).max() > 60
    stored = {"RGB": (0.306, -0.024, -0.235), "BGR": (-0.235, -0.024, 0.306)}
    for order, expected in stored.items():
        tensor = InputSpec(channel_order=order).to_input(picture[None])
        np.testing.assert_allclose(tensor.mean(axis=(0, 2, 3)), expected, atol=0.012)


def test_swapped_red_and_blue_is_noticed_and_skin_and_grey_are_not() -> None:
    rng = np.random.default_rng(0)
    shades = rng.integers(-30, 30, 20)
    drawn = [np.clip(golden().astype(int) + shade, 0, 255).astype(np.uint8) for shade in shades]
    assert look(Squares(lambda index: drawn[index])) == []
    (note,) = look(Squares(lambda index: drawn[index][..., ::-1]))
    assert "red and blue look swapped" in note and "20 of 20" in note
    grey = Squares(lambda index: np.full((9, 9, 3), 7 * index, np.uint8))
    assert look(grey) == [] and "grey" in look(grey, order_is_assumed=True)[0]
    assert channel_means(golden())[0] > channel_means(golden())[2]
