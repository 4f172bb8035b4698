"""What a training set is, whatever it lies in: labelled crops by number."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.images import Image


class FaceDataset(Protocol):
    """Aligned face crops with the identity of each; the same picture for the same number, in every process."""

    name: str
    """A short name for run folders, reports and messages."""
    labels: npt.NDArray[np.int64]
    """(images,): the identity of each picture, contiguous from 0."""
    num_classes: int
    """How many identities there are."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> Image:
        """Picture i: RGB uint8 (height, width, 3), of one size for the whole set.

        InputError, naming the file or record, when it is damaged.
        """
        ...

    def describe(self) -> str:
        """The set in one line: "4,462 images of 941 identities, RecordIO"."""
        ...


def to_size(image: Image, size: tuple[int, int]) -> Image:
    """`image` at `size`, (height, width): unchanged where it has that size, else by area or linear interpolation."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] > height and image.shape[1] > width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized  # type: ignore[return-value]  # cv2's stubs know no dtype


def require_identities(num_classes: int, where: str) -> None:
    """InputError unless there are two identities or more: a margin head has nothing to separate otherwise."""
    if num_classes < 2:
        raise InputError(
            f"expected at least two identities in {where}, found {num_classes}; training needs people to tell apart"
        )
