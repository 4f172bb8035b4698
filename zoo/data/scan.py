"""Every picture of a set read once, in order: its size, its hashes, or what is wrong with it."""

import contextlib
import functools
import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.formats.photos import decode_photo
from zoo.formats.read_ahead import map_ahead
from zoo.machine import cores
from zoo.messages import Progress, no_progress

Hashes = npt.NDArray[np.uint64]  #: (images, 4): 256 bits per picture

NEAR = 50
"""Hashes that differ in at most so many of their 256 bits are near-duplicates.

Chosen by `benchmarks/data.py near`: a larger limit finds more of the copies that were shifted by two pixels, a smaller
one keeps further away from the first false matches; docs/data.md has the table.
"""

_ROWS = 1024


def exact_hash(content: bytes) -> bytes:
    """16 bytes that are the same for the same encoded bytes only."""
    return hashlib.blake2b(content, digest_size=16).digest()


def perceptual_hash(image: Image) -> Hashes:
    """(4,): which of the 16×16 lowest frequencies of the grey picture, the mean left out, lie above their median.

    The classical DCT hash (Zauner, 2010) with four times its bits: aligned faces share their lowest frequencies.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(grey.astype(np.float32))[1:17, 1:17].ravel()
    return np.packbits(waves > np.median(waves)).view(np.uint64)


def near_pairs(a: Hashes, b: Hashes, distance: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """(i, j, bits) for every a[i] and b[j] that differ in at most `distance` bits, by i; in blocks of a few MB."""
    for start in range(0, len(a), _ROWS):
        block = a[start : start + _ROWS]
        for place in range(0, len(b), _ROWS):
            other = b[place : place + _ROWS]
            bits = np.zeros((len(block), len(other)), np.uint16)
            for word in range(4):
                bits += np.bitwise_count(block[:, word, None] ^ other[None, :, word])
            for i, j in np.argwhere(bits <= distance).tolist():
                yield start + i, place + j, int(bits[i, j])


PAYS_FROM = 20_000
"""Pictures from which several processes are faster than one: it takes them some tenths of a second to start.

`benchmarks/data.py scan` measures it.
"""

_CHUNK = 128


@dataclass(frozen=True)
class Look:
    """What is known of an intact picture."""

    size: tuple[int, int]  #: (height, width) in pixels
    length: int  #: Bytes of the encoded picture
    exact: bytes  #: The same for the same encoded bytes only
    near: Hashes  #: (views, 4): perceptual hashes of the picture and of its mirror image, as many as were asked for


def scan(
    dataset: EncodedFaces, *, views: int = 0, workers: int | None = None, progress: Progress = no_progress
) -> Iterator[Look | str]:
    """A look at each picture in order, or one sentence about why it cannot be read.

    `views` perceptual hashes per picture: 0 none, 1 as it is, 2 its mirror image too. This process reads, `workers`
    processes unpack and hash; with 1, this one does. None takes as many as there are cores from PAYS_FROM pictures on.
    A few chunks are in memory, whatever the set's size. Threads would not do: for pictures of 40 µs each they spend
    their time passing the interpreter's lock.
    """
    if workers is None:
        workers = cores() if len(dataset) >= PAYS_FROM else 1
    if workers < 1:
        raise InputError(f"expected --workers of at least 1, found {workers}")
    chunks = (_read(dataset, start) for start in range(0, len(dataset), _CHUNK))
    with contextlib.ExitStack() as held:
        pool = None
        if workers > 1:  # spawned: a fork would copy the threads' locks of whatever library reads the set
            spawn = multiprocessing.get_context("spawn")
            pool = held.enter_context(ProcessPoolExecutor(workers, spawn, initializer=_settle))
        for found in map_ahead(functools.partial(_look, views=views), chunks, 0, 3 * workers, pool):
            yield from found
            progress(len(found))


def _read(dataset: EncodedFaces, start: int) -> list[tuple[bytes | None, str]]:
    """The content and the place of each picture of a chunk; no content, but what is wrong, where it cannot be read."""
    contents: list[tuple[bytes | None, str]] = []
    for i in range(start, min(start + _CHUNK, len(dataset))):
        try:
            contents.append((dataset.content(i), dataset.where(i)))
        except InputError as error:
            contents.append((None, str(error)))
    return contents


def _look(contents: list[tuple[bytes | None, str]], views: int) -> list[Look | str]:
    return [where if content is None else _look_at(content, where, views) for content, where in contents]


def _look_at(content: bytes, where: str, views: int) -> Look | str:
    try:
        image = decode_photo(content, where)
    except InputError as error:
        return str(error)
    near = np.empty((views, 4), np.uint64)
    for view in range(views):
        near[view] = perceptual_hash(cv2.flip(image, 1) if view else image)  # type: ignore[arg-type]
    return Look((image.shape[0], image.shape[1]), len(content), exact_hash(content), near)


def _settle() -> None:
    cv2.setNumThreads(0)
