"""Batches of a training set in a seeded order: the same epoch for any number of workers and from any step on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.data.augment import Augmentation
from zoo.data.base import FaceDataset
from zoo.errors import InputError

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(crops uint8 (batch, height, width, 3) RGB, labels int64 (batch,), indices int64 (batch,))."""


class TrainLoader:
    """The epochs of a training set, each a seeded shuffle without its incomplete last batch.

    Everything follows from (seed, epoch, step): the order, and the augmentation of each picture through the key (seed,
    epoch, index). So a restart needs a step number and no state of any worker. Over `world` ranks, batch b of rank r
    holds the pictures b·world·batch_size + r·batch_size … of the shuffled order. Workers stay alive between epochs.
    InputError for a set smaller than one batch on every rank, and, from `epoch`, for a damaged picture.
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
    ) -> None:
        if batch_size < 1:
            raise InputError(f"expected a batch size of at least 1, found {batch_size}")
        if workers < 0:
            raise InputError(f"expected 0 or more loader workers, found {workers}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world = rank, world
        self._steps = len(dataset) // (batch_size * world)
        if self._steps == 0:
            wanted = f"{batch_size}" if world == 1 else f"{batch_size} on each of {world} ranks"
            raise InputError(
                f"expected at least one batch of {wanted}, found {len(dataset):,} images in {dataset.name};"
                f" use a batch size of at most {max(1, len(dataset) // world):,}"
            )
        self._plan = _Plan()
        self._loader: DataLoader[Any] = DataLoader(
            _Batches(dataset, augmentation, seed),
            batch_size=None,
            sampler=self._plan,
            num_workers=workers,
            worker_init_fn=_settle_worker,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Steps in an epoch, at least 1."""
        return self._steps

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The pictures of an epoch in the order of all ranks together: int64 (steps · world · batch_size,)."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        return shuffled[: self._steps * self.world * self.batch_size].astype(np.int64, copy=False)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of `epoch`, from step `start_step` on: exactly those that a whole epoch ends with."""
        batches = self.order(epoch).reshape(self._steps, self.world, self.batch_size)[start_step:, self.rank]
        self._plan.items = [(epoch, batch) for batch in batches]
        for found in self._loader:
            if isinstance(found, InputError):
                raise found
            yield found


class _Plan(Sampler[Any]):
    """What the workers are to make next: (epoch, indices) of each batch."""

    def __init__(self) -> None:
        self.items: list[tuple[int, npt.NDArray[np.int64]]] = []

    def __iter__(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class _Batches(Dataset[Any]):
    """Makes the batch of a plan's item. It runs in the workers."""

    def __init__(self, dataset: FaceDataset, augmentation: Augmentation, seed: int) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed

    def __getitem__(self, item: tuple[int, npt.NDArray[np.int64]]) -> Batch | InputError:
        epoch, indices = item
        try:
            crops = self._crops(epoch, indices.tolist())
        except InputError as error:  # returned, because torch would wrap what is raised into a traceback
            return error
        return crops, torch.from_numpy(self.dataset.labels[indices]), torch.from_numpy(indices.copy())

    def _crops(self, epoch: int, indices: list[int]) -> torch.Tensor:
        crops: torch.Tensor | None = None
        for place, index in enumerate(indices):
            image = self.augmentation(self.dataset.image(index), (self.seed, epoch, index))
            if crops is None:
                crops = torch.empty((len(indices), *image.shape), dtype=torch.uint8)
                rows = crops.numpy()
            if image.shape != rows.shape[1:]:
                raise InputError(
                    f"expected every picture of {self.dataset.name} to have the shape {rows.shape[1:]}, found"
                    f" {image.shape} at picture {index}; resize them to one size"
                )
            rows[place] = image
        assert crops is not None, "a plan has no empty batch"
        return crops


def _settle_worker(worker: int) -> None:
    """One thread a worker: OpenCV's own would fight over the cores with the other workers and the training."""
    cv2.setNumThreads(0)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
