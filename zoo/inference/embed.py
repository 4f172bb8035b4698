"""From a stream of pictures to one array of embeddings, whatever computes them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.messages import Progress
from zoo.modelinfo import Crops, InputSpec, ModelInfo

Embedder = Callable[[Crops], npt.NDArray[np.float32]]
"""RGB uint8 crops (batch, H, W, 3) → raw float32 embeddings (batch, dim), by ONNX Runtime or torch."""


class FaceModel(typing.Protocol):
    """An embedder that tells what it is: `OnnxEmbedder`, or the same model by torch."""

    path: Path
    """The file with the weights."""
    input: InputSpec
    info: ModelInfo | None
    """The facts that travel with the model; None where it has none."""
    embedding_dim: int
    provider: str
    """What computes, and where."""
    notes: list[str]
    """What a reader of the results should know; an inference may add to it."""

    @property
    def precision(self) -> str:
        """The arithmetic: float32, float16 or float64."""

    @property
    def model_sha256(self) -> str:
        """The hash of the weights, unchanged when facts are written."""

    def __call__(self, crops: Crops, /) -> npt.NDArray[np.float32]:
        """Raw embeddings (batch, dim) of RGB uint8 crops (batch, H, W, 3)."""


def embed(
    embedder: Embedder,
    images: Iterable[Image | None],
    batch_size: int = 64,
    flip: bool = True,
    progress: Progress | None = None,
    dim: int | None = None,
) -> npt.NDArray[np.float32]:
    """Raw embeddings (images, dim) of RGB uint8 pictures (H, W, 3), read as a stream, one batch in memory.

    With `flip` each is e(x) + e(mirror x), the sum over the picture and its mirror image. Nothing is
    normalised: each protocol does it as its definition has it. None stands for a picture in which no face was
    found, and becomes a row of zeros, which protocols count as a failure to enrol; where all are, `dim` tells how
    long the rows are.
    """
    if batch_size < 1:
        raise InputError(f"expected a batch size of at least 1, found {batch_size}")
    missing: list[int] = []

    def watched() -> Iterator[Image | None]:
        for index, image in enumerate(images):
            if image is None:
                missing.append(index)
            yield image

    parts: list[npt.NDArray[np.float32]] = []
    for crops in batches(watched(), batch_size):
        part = np.asarray(embedder(crops), dtype=np.float32)
        if flip:
            part = part + np.asarray(embedder(np.ascontiguousarray(crops[:, :, ::-1])), dtype=np.float32)
        parts.append(part)
        if progress is not None:
            progress(len(crops))
    if not parts and missing and dim:
        return np.zeros((len(missing), dim), np.float32)
    if not parts:
        found = f"no face in any of {len(missing)}" if missing else "none"
        raise InputError(f"expected images to embed, found {found}")
    found_in = np.concatenate(parts)
    if not missing:
        return found_in
    embeddings = np.zeros((len(found_in) + len(missing), found_in.shape[1]), np.float32)
    embeddings[np.delete(np.arange(len(embeddings)), missing)] = found_in
    return embeddings


def batches(images: Iterable[Image | None], batch_size: int) -> Iterator[Crops]:
    """The pictures stacked to (batch, H, W, 3), without those that are None.

    A batch ends at every multiple of `batch_size` and where the size changes, so that a stream cut at such a
    multiple makes the same batches as the whole one.
    """
    held: list[Image] = []
    for index, image in enumerate(images):
        if held and (index % batch_size == 0 or (image is not None and image.shape != held[0].shape)):
            yield np.stack(held)
            held = []
        if image is not None:
            held.append(image)
    if held:
        yield np.stack(held)
