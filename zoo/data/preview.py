"""A contact sheet: pictures of a set above what an augmentation makes of them."""

from pathlib import Path

import numpy as np

from zoo.data.augment import Augmentation, build_augmentation
from zoo.data.base import FaceDataset
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.files import write_bytes
from zoo.formats.images import Image, encode_png


def preview(
    uri: str, out: str | Path, *, augment: str = "strong", columns: int = 12, epochs: int = 4, seed: int = 0
) -> None:
    """Writes a contact sheet of the set at `uri` as the PNG `out`; `augment` is a preset's name or a YAML file."""
    augmentation = build_augmentation(augment)
    sheet = contact_sheet(open_dataset(uri), augmentation, columns=columns, epochs=epochs, seed=seed)
    write_bytes(out, encode_png(sheet))


def contact_sheet(
    dataset: FaceDataset, augmentation: Augmentation, *, columns: int = 12, epochs: int = 4, seed: int = 0
) -> Image:
    """RGB uint8: `columns` random pictures of the set in the first row, their first `epochs` epochs below."""
    if columns < 1 or epochs < 1:
        raise InputError(f"expected at least one column and one epoch, found {columns} and {epochs}")
    columns = min(columns, len(dataset))
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset), columns, replace=False)).tolist()
    originals = [dataset.image(i) for i in chosen]
    rows = [originals] + [
        [augmentation(image, (seed, epoch, i)) for image, i in zip(originals, chosen, strict=True)]
        for epoch in range(epochs)
    ]
    gap = 4
    height, width = originals[0].shape[:2]
    sheet = np.full((len(rows) * (height + gap) + 2 * gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for row, images in enumerate(rows):
        top = gap + row * (height + gap) + (gap if row else 0)
        for column, image in enumerate(images):
            left = gap + column * (width + gap)
            sheet[top : top + height, left : left + width] = image
    return sheet
