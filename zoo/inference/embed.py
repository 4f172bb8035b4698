"""From pictures to one array of embeddings, by any embedder."""

import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.formats.read_ahead import Pictures, read_ahead
from zoo.messages import Progress
from zoo.modelinfo import Crops, InputSpec, ModelInfo

Embedder = Callable[[Crops], npt.NDArray[np.float32]]
"""RGB uint8 crops (batch, H, W, 3) → raw float32 embeddings (batch, dim), by ONNX Runtime or torch."""


class FaceModel(typing.Protocol):
    """An embedder with the facts of its model: `OnnxEmbedder`, or `TorchFolder` for torch."""

    path: Path
    """The file with the weights."""
    input: InputSpec
    stated: bool
    """Whether the file or the caller states the input, so that nothing is assumed of it."""
    info: ModelInfo | None
    """The facts that travel with the model; None where it has none."""
    embedding_dim: int
    provider: str
    """The library and the device that compute."""
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
    images: Iterable[Image | None] | Pictures,
    batch_size: int = 64,
    flip: bool = True,
    progress: Progress | None = None,
    dim: int | None = None,
    workers: int = 2,
) -> npt.NDArray[np.float32]:
    """Raw embeddings (images, dim) of RGB uint8 pictures (H, W, 3), read as a stream, one batch in memory.

    `images` are the pictures in order, or `Pictures` such as a protocol, which `workers` threads read ahead. With
    `flip` an embedding is e(x) + e(mirror x), the sum over a picture and its mirror image. Nothing is normalised: each
    protocol does that by its own definition. None stands for a picture without a face and becomes a row of zeros, which
    protocols count as a failure to enrol; where all are None, `dim` is the dimension of the rows.
    """
    if batch_size < 1:
        raise InputError(f"expected a batch size of at least 1, found {batch_size}")
    stream = read_ahead(images, workers) if isinstance(images, Pictures) else images
    missing: list[int] = []

    def watched() -> Iterator[Image | None]:
        for index, image in enumerate(stream):
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
    return np.insert(found_in, np.array(missing, np.int64) - np.arange(len(missing)), 0, axis=0)


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
