"""What happens to a training picture: presets on albumentations, each a pure function of the picture and a key."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from zoo.errors import unknown_name
from zoo.formats.images import Image

RngKey = tuple[int, int, int]
"""(seed, epoch, sample): the same key gives the same picture on every run, worker count and resume."""

_WORD = (1 << 64) - 1


class Augmentation(Protocol):
    """Changes a picture as its key says and leaves the original as it was."""

    name: str
    """The preset's name or the YAML file's."""

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        """RGB uint8 (height, width, 3) → RGB uint8 of the same shape."""
        ...


def build_augmentation(preset: str) -> Augmentation:
    """The augmentation called `preset`; InputError, closest names first, when there is none.

    `none`: the picture as it is. `flip`: its mirror image in half of the cases (the paper's). `strong`: flip, 15 %
    scale, 5 pixels of shift, brightness and contrast.
    """
    if preset not in PRESETS:
        raise unknown_name("augmentation", preset, PRESETS)
    return PRESETS[preset]()


def key_word(key: RngKey) -> int:
    """64 random bits that depend on the key alone: SplitMix64's output function (Steele et al., 2014) over its parts.

    A generator that is seeded for every picture would cost half a decode; this costs a microsecond.
    """
    word = 0
    for part in key:
        word = (word ^ part) + 0x9E3779B97F4A7C15 & _WORD
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
        word ^= word >> 31
    return word


class NoAugmentation:
    """The picture as it is."""

    name = "none"

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        return image


class Flip:
    """The mirror image in half of the cases, by the function that albumentations' HorizontalFlip calls."""

    name = "flip"

    def __init__(self) -> None:
        import albucore  # albumentations' own kernels: importing these alone takes a tenth of its time

        self._flip: Callable[[Image], Image] = albucore.hflip

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        return self._flip(image) if key_word(rng_key) >> 63 else image


class Composed:
    """An albumentations pipeline whose every draw comes from the key.

    Its transforms share one counter generator and one `random.Random`, which each call sets anew: reseeding the
    transforms one by one, as Compose would, takes as long as they do.
    """

    def __init__(self, name: str, build: Callable[[], Any]) -> None:
        self.name = name
        self._build = build
        self._prepare()

    def _prepare(self) -> None:
        self._pipeline = self._build()
        self._bits = np.random.Philox(key=0)
        self._fresh = self._bits.state
        self._random = random.Random()
        self._pipeline.set_random_state(np.random.Generator(self._bits), self._random)

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        word = key_word(rng_key)
        self._fresh["state"]["key"][0] = word
        self._bits.state = self._fresh
        self._random.seed(word)
        changed: Image = self._pipeline(image=image)["image"]
        return changed

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_build": self._build}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def _compose(transforms: Sequence[Any]) -> Any:
    import albumentations

    return albumentations.Compose(transforms)


def _strong() -> Any:
    import albumentations as A

    return _compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.85, 1.15), keep_ratio=True, translate_px=(-5, 5), border_mode=cv2.BORDER_REFLECT_101, p=1.0
            ),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        ]
    )


PRESETS: dict[str, Callable[[], Augmentation]] = {
    "none": NoAugmentation,
    "flip": Flip,
    "strong": lambda: Composed("strong", _strong),
}
"""Every preset by its name."""
