"""Crops to calibrate and prove a model on, from any layout that training or evaluation reads, at the model's size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.open import open_crops
from zoo.errors import InputError
from zoo.export.parity import crops_for_parity
from zoo.modelinfo import Crops

CALIBRATION_CROPS = 128
"""How many crops calibrate a quantisation; the ranges converge well before."""


@dataclass(frozen=True)
class CropSet:
    """Crops with their origin."""

    crops: Crops
    """RGB uint8 (count, H, W, 3)."""
    name: str
    """Where they come from, for reports; never the name of a person."""


def read_crops(source: str | None, size: tuple[int, int], count: int = CALIBRATION_CROPS) -> CropSet:
    """`count` crops spread evenly over `source`, or all where there are fewer, of exactly `size`, (height, width).

    `source` is anything that `open_crops` reads: a training set in any layout, a benchmark of pairs, or a folder of
    pictures at any depth. None or "synthetic" gives synthetic faces of people who are in no training set. Nothing is
    resized: calibration on crops unlike those in use would degrade the model. InputError where there are no pictures
    or one has another size.
    """
    if source is None or source == "synthetic":
        return CropSet(crops_for_parity(size, count), "synthetic faces")
    dataset = open_crops(source, size)
    total = len(dataset)
    if total == 0:
        raise InputError(f"expected crops to calibrate on in {source}, found 0 images; name aligned face crops")
    crops = []
    for index in np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)).tolist():
        crop = dataset.image(index)
        if crop.shape[:2] != size:
            raise InputError(
                f"expected crops of {size[0]}×{size[1]} to calibrate on in {source}, found one of {crop.shape[0]}×"
                f"{crop.shape[1]} (image {index}); align the faces to the model's size first"
            )
        crops.append(crop)
    return CropSet(np.stack(crops), f"{Path(source).name}: {len(crops)} of {total:,} images")
