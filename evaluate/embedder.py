"""From a stream of pictures to one array of embeddings, whatever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.spec import Crops

Embedder = Callable[[Crops], npt.NDArray[np.float32]]
"""RGB uint8 crops (batch, H, W, 3) → raw float32 embeddings (batch, dim), by ONNX Runtime or torch."""

Progress = Callable[[int], None]
"""Told how many images were embedded since it was told last."""


def embed(
    embedder: Embedder,
    images: Iterable[npt.NDArray[np.uint8]],
    batch_size: int = 64,
    flip: bool = True,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Raw embeddings (images, dim) of RGB uint8 pictures (H, W, 3), read as a stream, one batch in memory.

    With `flip` each is e(x) + e(mirror x), the sum over the picture and its mirror image. Nothing is
    normalised: each protocol does it as its definition has it.
    """
    if batch_size < 1:
        raise InputError(f"expected a batch size of at least 1, found {batch_size}")
    parts: list[npt.NDArray[np.float32]] = []
    for crops in batches(images, batch_size):
        part = np.asarray(embedder(crops), dtype=np.float32)
        if flip:
            part = part + np.asarray(embedder(np.ascontiguousarray(crops[:, :, ::-1])), dtype=np.float32)
        parts.append(part)
        if progress is not None:
            progress(len(crops))
    if not parts:
        raise InputError("expected images to embed, found none")
    return np.concatenate(parts)


def batches(images: Iterable[npt.NDArray[np.uint8]], batch_size: int) -> Iterator[Crops]:
    """The pictures stacked to (batch, H, W, 3); a batch ends early where the size changes."""
    held: list[npt.NDArray[np.uint8]] = []
    for image in images:
        if held and (len(held) == batch_size or image.shape != held[0].shape):
            yield np.stack(held)
            held = []
        held.append(image)
    if held:
        yield np.stack(held)


def resize(crops: Crops, size: tuple[int, int]) -> Crops:
    """Crops (batch, H, W, 3) at `size` (height, width): by area where both sides shrink, else bilinear."""
    height, width = size
    shrinking = crops.shape[1] > height and crops.shape[2] > width
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.stack([np.asarray(cv2.resize(crop, (width, height), interpolation=method), np.uint8) for crop in crops])
