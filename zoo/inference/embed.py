"""From pictures to one array of embeddings: by any embedder, or by several processes, one per device."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.formats.read_ahead import Pictures, read_ahead
from zoo.machine import cores
from zoo.messages import Progress, no_progress
from zoo.modelinfo import Crops


def embed(
    embedder: Callable[[Crops], npt.NDArray[np.float32]],
    images: Iterable[Image | None] | Pictures,
    batch_size: int = 64,
    flip: bool = True,
    progress: Progress = no_progress,
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
    missing, parts = list[int](), list[npt.NDArray[np.float32]]()
    for crops in batches(stream, batch_size, missing):
        part = np.asarray(embedder(crops), dtype=np.float32)
        if flip:
            part = part + np.asarray(embedder(np.ascontiguousarray(crops[:, :, ::-1])), dtype=np.float32)
        parts.append(part)
        progress(len(crops))
    if not parts and missing and dim:
        return np.zeros((len(missing), dim), np.float32)
    if not parts:
        found = f"no face in any of {len(missing)}" if missing else "none"
        raise InputError(f"expected images to embed, found {found}")
    return np.insert(np.concatenate(parts), np.array(missing, np.int64) - np.arange(len(missing)), 0, axis=0)


def batches(images: Iterable[Image | None], batch_size: int, missing: list[int]) -> Iterator[Crops]:
    """The pictures stacked to (batch, H, W, 3), without those that are None, whose numbers `missing` collects.

    A batch ends at every multiple of `batch_size` and where the size changes, so that a stream cut at such a
    multiple makes the same batches as the whole one.
    """
    held: list[Image] = []
    for index, image in enumerate(images):
        if held and (index % batch_size == 0 or (image is not None and image.shape != held[0].shape)):
            yield np.stack(held)
            held = []
        if image is None:
            missing.append(index)
        else:
            held.append(image)
    if held:
        yield np.stack(held)


BATCHES_AT_ONCE = 16  #: The most batches handed to a process at once: enough to read ahead, few enough to share evenly


@dataclass(frozen=True)
class Job:
    """What every process needs; it is pickled."""

    model: Path
    pictures: Pictures
    batch_size: int = 64
    flip: bool = True
    workers: int = 2
    options: dict[str, Any] = field(default_factory=dict)  #: OnnxEmbedder's, without the device


Part = tuple[npt.NDArray[np.float32], list[str]]  #: Embeddings (images, dim), and the model's notes so far


def spans(images: int, batch_size: int, devices: int = 1) -> list[tuple[int, int]]:
    """The pictures in parts of whole batches: (first, behind the last) each."""
    span = batch_size * min(BATCHES_AT_ONCE, max(1, -(-images // batch_size) // (4 * devices)))
    return [(start, min(start + span, images)) for start in range(0, images, span)]


def embed_on(
    job: Job,
    devices: Sequence[str],
    progress: Progress = no_progress,
    known: Callable[[int, int], npt.NDArray[np.float32] | None] = lambda start, stop: None,
    keep: Callable[[int, npt.NDArray[np.float32]], object] = lambda start, rows: None,
) -> Part:
    """Raw embeddings (images, dim) of the job's pictures by one process on each device, and the models' notes.

    The batches are those of a single process, so the embeddings are too, bit for bit, on devices of one kind. `known`
    gives the rows of pictures start to before stop from earlier work; `keep` takes others as they come. InputError for
    an error in a process, or when one was killed.
    """
    import multiprocessing  # as long to import as a photo takes to verify, which needs none of it
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    images = len(job.pictures)
    if not images:
        raise InputError("expected images to embed, found none")
    every = spans(images, job.batch_size, len(devices))
    found = ((start, known(start, stop)) for start, stop in every)
    parts: dict[int, Part] = {start: (rows, []) for start, rows in found if rows is not None}
    context = multiprocessing.get_context("spawn")  # neither ONNX Runtime nor CUDA survives a fork
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    pool = ProcessPoolExecutor(len(devices), context, initializer=_take, initargs=(job, free, len(devices)))
    try:
        running = {pool.submit(_embed, start, stop): (start, stop) for start, stop in every if start not in parts}
        for done in as_completed(running):
            start, stop = running[done]
            parts[start] = done.result()
            keep(start, parts[start][0])
            progress(stop - start)
    except BrokenProcessPool:
        why = "but one was killed; if memory ran out, try fewer devices or a smaller --batch-size"
        raise InputError(f"expected {len(devices)} processes to embed on {', '.join(devices)}, {why}") from None
    finally:
        pool.shutdown(cancel_futures=True)
    notes = list(dict.fromkeys(note for start in sorted(parts) for note in parts[start][1]))
    return np.concatenate([parts[start][0] for start in sorted(parts)]), notes


_own: dict[str, Any] = {}  #: What a process of `embed_on` works with


def _take(job: Job, free: Any, processes: int) -> None:
    """Stores the job and a free device; the model is opened with the first part, so that an error is passed back."""
    _own.update(job=job, device=free.get(), processes=processes)


def _embed(start: int, stop: int) -> Part:
    from zoo.inference.session import OnnxEmbedder

    job: Job = _own["job"]
    if "embedder" not in _own:
        threads = job.options.get("threads") or max(1, cores() // _own["processes"])
        _own["embedder"] = OnnxEmbedder(job.model, _own["device"], **{**job.options, "threads": threads})
    embedder, pictures = _own["embedder"], read_ahead(job.pictures, job.workers, start=start, stop=stop)
    return embed(embedder, pictures, job.batch_size, job.flip, dim=embedder.embedding_dim), list(embedder.notes)
