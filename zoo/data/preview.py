"""A contact sheet: pictures of a set above what an augmentation makes of them."""

from pathlib import Path

import numpy as np

from zoo.data.augment import build_augmentation
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.files import write_bytes
from zoo.formats.images import encode_png


def preview(uri: str, out: str | Path, *, augment: str = "strong", columns: int = 12, epochs: int = 4) -> None:
    """Writes random pictures of the set at `uri` as a PNG, and below them their first epochs under `augment`."""
    if columns < 1 or epochs < 1:
        raise InputError(f"expected at least one column and one epoch, found {columns} and {epochs}")
    change, dataset = build_augmentation(augment), open_dataset(uri)
    chosen = np.sort(np.random.default_rng(0).choice(len(dataset), min(columns, len(dataset)), replace=False)).tolist()
    rows = [[dataset.image(i) for i in chosen]]
    for epoch in range(epochs):
        rows.append([change(image, (0, epoch, i)) for image, i in zip(rows[0], chosen, strict=True)])
    pictures = np.pad(np.array(rows), ((0, 0), (0, 0), (4, 0), (4, 0), (0, 0)), constant_values=255)
    count, across, height, width, _ = pictures.shape
    sheet = pictures.swapaxes(1, 2).reshape(count * height, across * width, 3)
    sheet = np.insert(sheet, [height] * 4, 255, axis=0)  # the originals stand apart
    write_bytes(out, encode_png(np.pad(sheet, ((0, 4), (0, 4), (0, 0)), constant_values=255)))
