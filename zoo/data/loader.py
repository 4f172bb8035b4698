"""Batches of a training set in a seeded order: the same epoch for any number of workers and from any step on."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from zoo.data.augment import Augmentation
from zoo.data.base import EncodedFaces, FaceDataset, per_epoch
from zoo.errors import InputError
from zoo.formats.images import Image

OPEN_BLOCKS = 16  #: Blocks whose pictures are shuffled together; a process keeps about that many in memory
MAX_DAMAGED_IN_A_ROW = 100  #: More damaged pictures in a row than this are not skipped: the set as a whole is broken
Numbers = npt.NDArray[np.int64]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(crops uint8 (batch, height, width, 3) RGB, labels int64 (batch,), samples int64 (batch,)).

Picture i of a set is sample i, and i + images, i + 2·images, … where an epoch takes it again, changed otherwise."""
SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)}
"""What schedulers and terminals send to every process of a run; a worker leaves them to its parent, which saves."""


class TrainLoader:
    """The epochs of a training set, each a seeded shuffle without its incomplete last batch.

    Everything follows from (seed, epoch, step): the order, and the augmentation of each picture through the key (seed,
    epoch, index). So a restart needs a step number and no state of any worker. Every rank of `world` has its own part
    of an epoch, of the same length. A set that is read in blocks (`EncodedFaces.blocks`) is shuffled by blocks, then
    within windows of OPEN_BLOCKS blocks, so that a rank reads its blocks one after another; others are shuffled whole.
    Workers stay alive between epochs. InputError for a set smaller than one batch on every rank, and, from `epoch`, for
    a damaged picture; with on_corrupt="skip", the next intact picture of the set takes its place, and `skipped` grows.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        augmentation: Augmentation,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
        pin_memory: bool = False,
        on_corrupt: str = "error",
    ) -> None:
        if on_corrupt not in ("error", "skip"):
            raise InputError(f"expected on-corrupt to be error or skip, found {on_corrupt!r}")
        if batch_size < 1 or workers < 0:
            raise InputError(f"expected a batch size of 1 or more and 0 or more workers, found {batch_size}, {workers}")
        self.dataset, self.batch_size, self.seed, self.rank, self.world = dataset, batch_size, seed, rank, world
        self._steps = per_epoch(dataset) // (batch_size * world)
        if self._steps == 0:
            wanted = f"{batch_size}" if world == 1 else f"{batch_size} on each of {world} ranks"
            told = f"images in {dataset.name}; use a batch size of at most {max(1, len(dataset) // world):,}"
            raise InputError(f"expected at least one batch of {wanted}, found {len(dataset):,} {told}")
        self.skipped: dict[int, str] = {}  #: What is wrong with each damaged picture of this rank's part of the epoch
        self._plan: list[tuple[int, Numbers]] = []  #: What the workers are to make next: (epoch, indices) each
        made = _Batches(dataset, augmentation, seed, skip=on_corrupt == "skip")
        kept: dict[str, Any] = {"persistent_workers": workers > 0, "pin_memory": pin_memory, "sampler": self._plan}
        kept |= {"batch_size": None, "num_workers": workers, "worker_init_fn": _settle_worker}
        self._loader: DataLoader[Any] = DataLoader(made, **kept)

    def __len__(self) -> int:
        """Steps in an epoch, at least 1."""
        return self._steps

    def order(self, epoch: int) -> Numbers:
        """The samples of an epoch: int64 (steps, world, batch)."""
        draws = np.random.default_rng([self.seed, epoch])
        blocks = getattr(self.dataset, "blocks", None)
        count = self._steps * self.world * self.batch_size
        samples, starts = drawn(self.dataset, draws)
        if blocks is None or len(blocks) - 1 <= OPEN_BLOCKS:
            draws.shuffle(samples)
            return samples[:count].reshape(self._steps, self.world, self.batch_size)
        edges = blocks if starts is None else starts[blocks]
        order = draws.permutation(len(blocks) - 1).tolist()
        neighbours = np.concatenate([samples[edges[block] : edges[block + 1]] for block in order])
        ranks = neighbours[:count].reshape(self.world, self._steps * self.batch_size)
        window = max(1, OPEN_BLOCKS * len(samples) // (len(blocks) - 1))
        for start in range(0, ranks.shape[1], window):
            draws.permuted(ranks[:, start : start + window], axis=1, out=ranks[:, start : start + window])
        return ranks.reshape(self.world, self._steps, self.batch_size).swapaxes(0, 1)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, from step `start_step` on: exactly those that a whole epoch ends with."""
        self.skipped = {}
        self._plan[:] = [(epoch, batch) for batch in self.order(epoch)[start_step:, self.rank]]
        with _signals_blocked():  # from the fork on: the workers inherit the mask
            made = iter(self._loader)
        # no variable holds a batch: when its reader is done with it, the next one takes its memory
        yield from map(self._checked, made)

    def _checked(self, found: tuple[Batch, dict[int, str]] | InputError) -> Batch:
        if isinstance(found, InputError):
            raise found
        batch, damaged = found
        self.skipped.update(damaged)
        return batch


def drawn(dataset: FaceDataset, draws: np.random.Generator) -> tuple[Numbers, Numbers | None]:
    """The samples that an epoch takes, by picture, and (images + 1,) where those of each start; None: one each.

    A picture whose share is 2.3 is taken two or three times, and there are exactly `per_epoch` samples.
    """
    images, shares = len(dataset), getattr(dataset, "shares", None)
    if shares is None:
        return np.arange(images), None
    order, times = draws.permutation(images), np.empty(images, np.int64)
    ends = np.floor(np.cumsum(shares[order], dtype=np.float64) + draws.uniform()).astype(np.int64)
    ends[-1] = per_epoch(dataset)
    times[order] = np.diff(np.minimum(ends, ends[-1]), prepend=0)
    starts = np.concatenate([[0], np.cumsum(times)])
    copy = np.arange(starts[-1]) - np.repeat(starts[:-1], times)
    return np.repeat(np.arange(images), times) + copy * images, starts


class _Batches(Dataset[Any]):
    """Makes the batch of each item of the plan; it runs in the workers."""

    def __init__(self, dataset: FaceDataset, augmentation: Augmentation, seed: int, skip: bool) -> None:
        self.dataset, self.augmentation, self.seed, self.skip = dataset, augmentation, seed, skip

    def __getitem__(self, item: tuple[int, Numbers]) -> tuple[Batch, dict[int, str]] | InputError:
        epoch, indices = item
        used, damaged = indices.copy(), dict[int, str]()
        try:
            crops = np.empty((len(used), *self._size, 3), np.uint8)
            read = self.dataset.read_into if isinstance(self.dataset, EncodedFaces) else self._copy_into
            for place, index in enumerate((used % len(self.dataset)).tolist()):
                try:
                    read(index, crops[place])
                except InputError as error:
                    if not self.skip:
                        raise InputError(f"{error}; or leave such pictures out with --on-corrupt skip") from None
                    damaged[index] = str(error)
                    used[place] = self._replace(index, crops[place], read)
            self.augmentation.batch(crops, self.seed, epoch, used)
        except InputError as error:  # returned, because torch would wrap an exception into a traceback
            return error
        labels = self.dataset.labels[used % len(self.dataset)]
        return (torch.from_numpy(crops), torch.from_numpy(labels), torch.from_numpy(used)), damaged

    @functools.cached_property
    def _size(self) -> tuple[int, int]:
        """(height, width) of every picture; if the set does not state it, that of its first intact one."""
        if isinstance(self.dataset, EncodedFaces) and self.dataset.image_size is not None:
            return self.dataset.image_size
        for number in range(len(self.dataset)):
            with contextlib.suppress(InputError):
                height, width = self.dataset.image(number).shape[:2]
                return height, width
        raise InputError(f"expected an intact picture in {self.dataset.name}, found none")

    def _copy_into(self, index: int, out: Image) -> None:
        image = self.dataset.image(index)
        if image.shape != out.shape:
            found = f"found {image.shape} at picture {index}; resize them to one size"
            raise InputError(f"expected every picture of {self.dataset.name} to have the shape {out.shape}, {found}")
        out[:] = image

    def _replace(self, index: int, out: Image, read: Callable[[int, Image], None]) -> int:
        """Reads the first intact picture after the damaged `index` into `out`; returns its number."""
        for tried in range(index + 1, index + MAX_DAMAGED_IN_A_ROW):
            number = tried % len(self.dataset)
            with contextlib.suppress(InputError):
                read(number, out)
                return number
        told = f"neighbours in {self.dataset.name}, found none from number {index} on; see `zoo data info`"
        raise InputError(f"expected an intact picture among {MAX_DAMAGED_IN_A_ROW} {told}")


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    mask: Any = getattr(signal, "pthread_sigmask", None)  # Windows has none
    before = mask(signal.SIG_BLOCK, SIGNALS) if mask else None
    try:
        yield
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)


def _settle_worker(worker: int) -> None:
    """One thread per worker: OpenCV's own would compete with the other workers and the training for the cores."""
    cv2.setNumThreads(0)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None

    def end_with_it() -> None:
        """However it ends: torch looks at the process that forked the worker, maybe a forkserver that lives as long."""
        parent.join()
        os._exit(0)

    threading.Thread(target=end_with_it, daemon=True).start()
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_heed_parent, args=(parent.pid,), daemon=True).start()


def _heed_parent(parent: int) -> None:
    """Ends this worker at its parent's own SIGTERM, and at nobody else's signal."""
    while True:
        received = signal.sigwaitinfo(SIGNALS)
        if received.si_pid == parent and received.si_signo == signal.SIGTERM:
            os._exit(0)
