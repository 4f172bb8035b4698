"""Crops to calibrate and prove a model on: read from whatever the user has, at exactly the model's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.errors import InputError
from zoo.export.parity import crops_for_parity
from zoo.formats.bins import read_bin
from zoo.formats.images import Image, decode
from zoo.formats.recordio import RecordFile
from zoo.modelinfo import Crops

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
CALIBRATION_CROPS = 128
"""How many crops calibrate a quantisation; ranges settle well before."""


@dataclass(frozen=True)
class CropSet:
    """Crops with their origin."""

    crops: Crops
    """RGB uint8 (count, H, W, 3)."""
    name: str
    """Where they are from, for reports: never a person's name."""


def read_crops(source: str | None, size: tuple[int, int], count: int = CALIBRATION_CROPS) -> CropSet:
    """`count` crops spread evenly over `source`, or as many as there are, of exactly `size`, (height, width).

    `source` is a .rec file or a folder with one, a .bin file of pairs, or a folder of images at any depth; None or
    "synthetic" draws faces of people who are in no training set. Nothing is resized: a model calibrated on other crops
    than it will see is a worse model. InputError where there are no images or they have another size.
    """
    if source is None or source == "synthetic":
        return CropSet(crops_for_parity(size, count), "drawn faces")
    path = Path(source)
    total, read = _open(path)
    if total == 0:
        raise InputError(f"expected crops to calibrate on in {path}, found 0 images; name aligned face crops")
    picked = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    crops = []
    for index in picked:
        crop = read(int(index))
        if crop.shape[:2] != size:
            raise InputError(
                f"expected crops of {size[0]}×{size[1]} to calibrate on in {path}, found one of {crop.shape[0]}×"
                f"{crop.shape[1]} (image {index}); align the faces to the model's size first"
            )
        crops.append(crop)
    return CropSet(np.stack(crops), f"{path.name}: {len(crops)} of {total:,} images")


def _open(path: Path) -> tuple[int, Callable[[int], Image]]:
    """How many images there are, and how the i-th is read."""
    if path.suffix == ".rec" or (path.is_dir() and any(path.glob("*.rec"))):
        records = RecordFile(path)
        return len(records), lambda i: decode(records.read(i), f"{path}, record {i}")
    if path.suffix == ".bin" and path.is_file():
        pictures, _ = read_bin(path)
        return len(pictures), lambda i: decode(pictures[i], f"{path}, image {i}")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        return len(files), lambda i: decode(files[i].read_bytes(), str(files[i]))
    found = "a file of another kind" if path.exists() else "nothing"
    raise InputError(f"expected a folder of crops, a .rec or a .bin file at {path}, found {found}; check the path")
