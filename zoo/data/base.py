"""What a training set is, in whatever format: labelled crops by number."""

import abc
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.formats.images import Image, decode, decode_into, resized
from zoo.formats.lists import contiguous

Size = tuple[int, int]  #: (height, width) of pictures, in pixels
KEPT_BLOCKS = 18  #: Blocks that a process keeps open: those that the loader shuffles together, and the next ones


class FaceDataset(Protocol):
    """Aligned face crops with the identity of each; the same picture for the same number, in every process."""

    name: str  #: A short name for run folders, reports and messages
    labels: npt.NDArray[np.int64]  #: (images,): the identity of each picture, contiguous from 0

    @property
    def num_classes(self) -> int:
        """How many identities there are."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> Image:
        """Picture i: RGB uint8 (height, width, 3), all of one size; InputError, naming its place, if it is damaged."""

    def describe(self) -> str:
        """The set in one line: "4,462 images of 941 identities, RecordIO"."""


class EncodedFaces(abc.ABC):
    """A set whose pictures are stored encoded. A format says where picture i is and reads its bytes."""

    name: str
    labels: npt.NDArray[np.int64]
    kind: str  #: The format's name
    identities: Sequence[str] | None = None  #: (classes,): what the format calls each identity, where it has names
    image_size: Size | None  #: (height, width) that `image` scales others to; None leaves each as it is
    notes: Sequence[str] = ()  #: What of the files at the set's place is not in it, a sentence each
    blocks: npt.NDArray[np.int64] | None = None
    """(blocks + 1,): where each block of neighbours starts, in formats that are read and shuffled a block at a time."""
    shares: npt.NDArray[np.float32] | None = None
    """(images,): how often an epoch takes each picture, on average; None stands for once."""

    @functools.cached_property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1 if len(self.labels) else 0

    def __len__(self) -> int:
        return len(self.labels)

    @abc.abstractmethod
    def content(self, i: int) -> bytes:
        """The encoded bytes of picture i; InputError, naming the place, when they cannot be read."""

    @abc.abstractmethod
    def where(self, i: int) -> str:
        """Where picture i is, for messages."""

    def image(self, i: int) -> Image:
        """Picture i: RGB uint8 (height, width, 3); InputError, naming the place, when it is damaged."""
        stored = decode(self.content(i), self.where(i))
        return stored if self.image_size is None else resized(stored, self.image_size)

    def read_into(self, i: int, out: Image) -> None:
        """Picture i into `out`, RGB uint8 (height, width, 3), contiguous: at its size, without a copy."""
        content = self.content(i)
        if not decode_into(content, out):
            out[:] = resized(decode(content, self.where(i)), (out.shape[0], out.shape[1]))

    def describe(self) -> str:
        return f"{len(self):,} images of {self.num_classes:,} identities, {self.kind}"


class BlockedFaces(EncodedFaces):
    """A set that is read a block of neighbours at a time."""

    blocks: npt.NDArray[np.int64]

    def place(self, i: int) -> tuple[int, int]:
        """The block of picture i, and its number there."""
        block = int(self.blocks.searchsorted(i, side="right")) - 1
        return block, i - int(self.blocks[block])

    @abc.abstractmethod
    def open_block(self, number: int) -> Any:
        """What the pictures of a block are read from, by each process for itself: not every reader survives a fork."""

    def opened(self, number: int) -> Any:
        """What `open_block` gives, which is kept for a while."""
        return _opened(self, number, os.getpid())


@functools.lru_cache(KEPT_BLOCKS)
def _opened(dataset: BlockedFaces, number: int, process: int) -> Any:
    return dataset.open_block(number)


class Selected(EncodedFaces):
    """Some pictures of another set, their identities numbered from 0 again."""

    def __init__(self, dataset: EncodedFaces, chosen: npt.NDArray[np.int64]) -> None:
        self.dataset, self.chosen = dataset, chosen
        self.name, self.kind = dataset.name, dataset.kind
        self.image_size, self.notes = dataset.image_size, dataset.notes
        left, self.labels = np.unique(dataset.labels[chosen], return_inverse=True)
        if dataset.identities is not None:
            self.identities = [dataset.identities[label] for label in left.tolist()]
        if dataset.blocks is not None:
            self.blocks = np.searchsorted(chosen, dataset.blocks)
        if dataset.shares is not None:
            self.shares = dataset.shares[chosen]

    def content(self, i: int) -> bytes:
        return self.dataset.content(int(self.chosen[i]))

    def where(self, i: int) -> str:
        return self.dataset.where(int(self.chosen[i]))


class Joined(EncodedFaces):
    """Several sets behind one another. People of two sets are two people, whatever they are called."""

    def __init__(self, datasets: Sequence[EncodedFaces]) -> None:
        self.datasets, self.image_size = datasets, datasets[0].image_size
        self.name, self.kind = ("+".join(names) for names in zip(*((d.name, d.kind) for d in datasets), strict=True))
        self.notes = [f"{d.name}: {note}" for d in datasets for note in d.notes]
        self.starts = np.cumsum([0, *map(len, datasets)])
        people = np.cumsum([0, *(d.num_classes for d in datasets)]).tolist()
        self.labels = np.concatenate([d.labels + first for d, first in zip(datasets, people, strict=False)])
        self.identities = [f"{d.name}/{who}" for d in datasets for who in d.identities or range(d.num_classes)]
        if any(d.shares is not None for d in datasets):
            each = [np.ones(len(d), np.float32) if d.shares is None else d.shares for d in datasets]
            self.shares = np.concatenate(each)
        edges = [(d.blocks, start) for d, start in zip(datasets, self.starts, strict=False)]
        blocks = [starts[:-1] + start for starts, start in edges if starts is not None]
        if 0 < len(blocks) < len(datasets):
            raise InputError(f"expected all of {self.name} or none in shards or tables, found {self.kind}; pack them")
        self.blocks = np.concatenate([*blocks, self.starts[-1:]]) if blocks else None

    def place(self, i: int) -> tuple[EncodedFaces, int]:
        """The set of picture i, and its number there."""
        number = int(self.starts.searchsorted(i, side="right")) - 1
        return self.datasets[number], i - int(self.starts[number])

    def content(self, i: int) -> bytes:
        dataset, number = self.place(i)
        return dataset.content(number)

    def where(self, i: int) -> str:
        dataset, number = self.place(i)
        return dataset.where(number)


def per_epoch(dataset: FaceDataset) -> int:
    """How many pictures an epoch takes."""
    shares = getattr(dataset, "shares", None)
    return len(dataset) if shares is None else int(shares.sum(dtype=np.float64) + 1e-6)


def select(dataset: EncodedFaces, min_images: int, max_images: int | None) -> EncodedFaces:
    """The identities with at least `min_images` pictures, and of each its first `max_images` ones."""
    counts = np.bincount(dataset.labels)
    keep = counts[dataset.labels] >= min_images
    if max_images is not None:
        order = np.argsort(dataset.labels, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        keep &= rank < max_images
    if keep.all():
        return dataset
    left = Selected(dataset, np.flatnonzero(keep))
    left.notes = [*left.notes, f"--min-images and --max-images leave {len(dataset) - len(left):,} images out"]
    return left


def fingerprint(dataset: FaceDataset) -> str:
    """16 hex digits that stand for who is on which picture: the labels, in order, and the names of the identities."""
    digest = hashlib.blake2b(np.ascontiguousarray(dataset.labels).data, digest_size=8)
    for name in getattr(dataset, "identities", None) or ():
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def labelled(column: Sequence[object], where: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """`contiguous` of the column of labels of a table; InputError where a label is missing."""
    if not column or None in column:
        raise InputError(f"expected a label in every row of {where}, found {'an empty one' if column else 'no rows'}")
    return contiguous(column)
