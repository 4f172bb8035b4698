"""Augmentation: presets on albumentations, each a pure function of the picture and a key."""

import functools
import itertools
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from zoo.data.open import open_dataset
from zoo.errors import InputError, explained, first_line, unknown_name
from zoo.files import write_bytes
from zoo.formats.images import Image, encode_png

RngKey = tuple[int, int, int]  #: (seed, epoch, sample): gives the same picture in every run, worker and resumed run
Images = npt.NDArray[np.uint8]  #: Pictures of one size: RGB uint8 (batch, height, width, 3)
_WORD = (1 << 64) - 1


class Augmentation:
    """Changes a picture as its key says and leaves the original as it was; this one, `none`, changes nothing."""

    name = "none"  #: The preset's name or the YAML file's

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        """RGB uint8 (height, width, 3) → RGB uint8 of the same shape."""
        return image

    def batch(self, images: Images, seed: int, epoch: int, samples: npt.NDArray[np.int64]) -> None:
        """Changes images[i] in place as a call with (seed, epoch, samples[i]) does: uint8 (batch, height, width, 3).

        InputError when a pipeline gives pictures of another shape.
        """


def build_augmentation(preset: str) -> Augmentation:
    """The augmentation called `preset`, or the pipeline in the YAML file of that name.

    `none`: the picture as it is. `flip`: mirrors half of the pictures (the paper's). `strong`: flip, 15 % scale, 5
    pixels of shift, brightness and contrast. `adaface`: flip, and a crop, a low resolution and a colour jitter
    with probability 0.2 each (AdaFace, Kim et al., 2022, section 4.1). A YAML file is one that `albumentations.save`
    wrote. InputError, closest names first, for another name, and for a file that holds no pipeline.
    """
    if preset.endswith((".yaml", ".yml")):
        import yaml

        unread = f"expected an albumentations pipeline in {preset}, cannot read it"
        with explained(unread, OSError, UnicodeDecodeError, yaml.YAMLError):
            description = yaml.safe_load(Path(preset).read_text(encoding="utf-8"))
        wrong = ValueError, TypeError, KeyError, AttributeError, NotImplementedError, UserWarning
        other = f"expected what albumentations.save writes in {preset}, found something else"
        with explained(other, *wrong, advice="save it again"):
            return Composed(Path(preset).stem, functools.partial(_from_description, description))
    if preset not in PRESETS:
        raise unknown_name("augmentation", preset, PRESETS)
    return PRESETS[preset]()


def key_word(*key: Any) -> Any:
    """64 random bits that depend on the key alone: SplitMix64's output function (Steele et al., 2014) over its parts.

    A part may be an array of uint64: (batch,) words at once. A seeded generator would take half as long as decoding.
    """
    word: Any = 0
    for part in key:
        word = (word ^ part) + 0x9E3779B97F4A7C15 & _WORD
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
        word ^= word >> 31
    return word


class Flip(Augmentation):
    """Mirrors half of the pictures, with the function that albumentations' HorizontalFlip calls."""

    name = "flip"

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        return cv2.flip(image, 1) if key_word(*rng_key) >> 63 else image  # type: ignore[return-value]

    @staticmethod
    def mirrored(seed: int, epoch: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(batch,): which of the samples it mirrors."""
        return np.asarray(key_word(seed, epoch, samples.astype(np.uint64)) >> np.uint64(63), np.bool_)

    def batch(self, images: Images, seed: int, epoch: int, samples: npt.NDArray[np.int64]) -> None:
        for place in np.flatnonzero(self.mirrored(seed, epoch, samples)).tolist():
            cv2.flip(images[place], 1, dst=images[place])


class Composed(Augmentation):
    """An albumentations pipeline whose random numbers come from the key alone.

    Its transforms share two generators that each call resets; to reseed each, as Compose would, takes as long as they.
    """

    def __init__(self, name: str, build: Callable[[], Any]) -> None:
        self.name, self._build = name, build
        self._pipeline, self._bits = build(), np.random.Philox(key=0)
        self._fresh, self._random = self._bits.state, random.Random()
        self._pipeline.set_random_state(np.random.Generator(self._bits), self._random)

    def __reduce__(self) -> tuple[Any, ...]:
        return Composed, (self.name, self._build)

    def __call__(self, image: Image, rng_key: RngKey) -> Image:
        word = key_word(*rng_key)
        self._fresh["state"]["key"][0] = word
        self._bits.state = self._fresh
        self._random.seed(word)
        try:
            changed: Image = self._pipeline(image=image)["image"]
        except Exception as error:  # of anybody's transforms: a crop larger than the picture
            why = f"found that it cannot ({first_line(error)}); mend it, and leave resizing to --image-size"
            raise InputError(f"expected the augmentation {self.name} to take the shape {image.shape}, {why}") from error
        if changed.dtype != np.uint8:  # Normalize, ToFloat: as uint8 they would be noise
            found = f"found {changed.dtype}; leave Normalize and ToFloat out: training scales by --set mean and std"
            raise InputError(f"expected the augmentation {self.name} to give whole numbers from 0 to 255, {found}")
        if changed.shape != image.shape:
            found = f"found it to give {changed.shape}; leave resizing to --image-size"
            raise InputError(f"expected the augmentation {self.name} to keep the shape {image.shape}, {found}")
        return changed

    def batch(self, images: Images, seed: int, epoch: int, samples: npt.NDArray[np.int64]) -> None:
        for image, sample in zip(images, samples.tolist(), strict=True):
            image[:] = self(image, (seed, epoch, sample))


def _from_description(description: Any) -> Any:
    import albumentations as A

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # albumentations only warns about a misspelt option, and ignores it
        pipeline = A.from_dict(description)
    return pipeline if isinstance(pipeline, A.Compose) else A.Compose([pipeline])


def _strong() -> Any:
    import albumentations as A

    moved = {"scale": (0.85, 1.15), "keep_ratio": True, "translate_px": (-5, 5), "border_mode": cv2.BORDER_REFLECT_101}
    light = A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5)
    return A.Compose([A.HorizontalFlip(p=0.5), A.Affine(**moved, p=1.0), light])


def _adaface() -> Any:
    import albumentations as A

    class CropInPlace(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
        """Keeps a rectangle of 0.2 to 1 of the area with sides of 3:4 to 4:3 in its place, and blackens the rest."""

        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            height, width = params["shape"][:2]
            area = height * width * self.py_random.uniform(0.2, 1.0)
            ratio = np.exp(self.py_random.uniform(np.log(3 / 4), np.log(4 / 3)))
            rows, columns = min(height, round((area / ratio) ** 0.5)), min(width, round((area * ratio) ** 0.5))
            top, left = self.py_random.randint(0, height - rows), self.py_random.randint(0, width - columns)
            return {"part": np.s_[top : top + rows, left : left + columns]}

        def apply(self, img: Image, part: tuple[slice, slice], **_: Any) -> Image:
            kept = np.zeros_like(img)
            kept[part] = img[part]
            return kept

    ways = cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4
    pairs = ({"downscale": down, "upscale": up} for down, up in itertools.product(ways, repeat=2))
    low_resolution = [A.Downscale(scale_range=(0.2, 0.999), interpolation_pair=pair, p=1.0) for pair in pairs]
    jitter = A.ColorJitter(brightness=(0.5, 1.5), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(0, 0), p=0.2)
    return A.Compose([A.HorizontalFlip(p=0.5), CropInPlace(p=0.2), A.OneOf(low_resolution, p=0.2), jitter])


PRESETS: dict[str, Callable[[], Augmentation]] = {"none": Augmentation, "flip": Flip}  #: Every preset by its name
PRESETS |= {name: functools.partial(Composed, name, of) for name, of in (("adaface", _adaface), ("strong", _strong))}


def preview(uri: str, out: str | Path, *, augment: str = "strong", columns: int = 12, epochs: int = 4) -> None:
    """Writes a contact sheet as a PNG: random pictures of the set at `uri`, below them their epochs under `augment`."""
    if columns < 1 or epochs < 1:
        raise InputError(f"expected at least one column and one epoch, found {columns} and {epochs}")
    change, dataset = build_augmentation(augment), open_dataset(uri)
    chosen = np.sort(np.random.default_rng(0).choice(len(dataset), min(columns, len(dataset)), replace=False)).tolist()
    shown = [dataset.image(i) for i in chosen]
    rows = [[change(image, (0, epoch, i)) for image, i in zip(shown, chosen, strict=True)] for epoch in range(epochs)]
    pictures = np.pad(np.array([shown, *rows]), ((0, 0), (0, 0), (4, 0), (4, 0), (0, 0)), constant_values=255)
    count, across, height, width, _ = pictures.shape
    sheet = pictures.swapaxes(1, 2).reshape(count * height, across * width, 3)
    sheet = np.insert(sheet, [height] * 4, 255, axis=0)  # the originals stand apart
    write_bytes(out, encode_png(np.pad(sheet, ((0, 4), (0, 4), (0, 0)), constant_values=255)))
