"""Rendered faces as a training set."""

import functools
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from zoo.data.rendered.facekit import read_facekit
from zoo.data.rendered.rig import Rig
from zoo.data.rendered.scene import render
from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.messages import log

SPLITS = {"train": 0, "test": 1}
AT_ONCE = 256
"""Images that a GPU renders together."""


class RenderedFaces:
    """Faces of `identities` people, `images_per_identity` of each, rendered from the morphable model in `folder`.

    An image is rendered on demand by the CPU, or all of them at once by a GPU (`render_all`). `seed` and `split`
    ("train" or "test") choose the people: no person is in both splits or in the sets of two seeds. InputError for what
    `read_facekit` refuses, fewer than 2 identities, fewer than 1 image, a seed outside 32 bits, or a size other than a
    square whose side is a multiple of 8 from 48 to 336.
    """

    def __init__(
        self,
        folder: str | Path,
        identities: int,
        images_per_identity: int,
        seed: int = 0,
        split: str = "train",
        image_size: tuple[int, int] = (112, 112),
    ) -> None:
        if identities < 2 or images_per_identity < 1:
            found = f"found {identities} and {images_per_identity}"
            raise InputError(f"expected at least 2 rendered people with an image of each, {found}; ask for more")
        if not 0 <= seed < 2**32 or split not in SPLITS:
            raise InputError(f"expected a seed of 32 bits and the split train or test, found {seed} and {split!r}")
        height, width = image_size
        if height != width or height % 8 or not 48 <= height <= 336:
            found = f"found {height}×{width}"
            raise InputError(f"expected square crops of a multiple of 8 from 48 to 336 pixels, {found}; use 112")
        self.name, self.num_classes, self.images_per_identity = "rendered", identities, images_per_identity
        self.seed, self.split, self.size = seed, split, height
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)
        self.kit = read_facekit(folder)
        self.kept: torch.Tensor | None = None
        """Every image, uint8 (images, size, size, 3), after `render_all`."""

    @functools.cached_property
    def rig(self) -> Rig:
        """What a CPU renders with."""
        return Rig(self.kit)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Image:
        """Image `i` as RGB uint8 (size, size, 3); IndexError outside 0 to len − 1."""
        if not 0 <= i < len(self):
            raise IndexError(f"expected an index from 0 to {len(self) - 1}, found {i}")
        if self.kept is not None:
            return np.asarray(self.kept[i].numpy())
        return np.asarray(self.render(self.rig, i, i + 1)[0].numpy())

    @torch.inference_mode()
    def render(self, rig: Rig, start: int, end: int) -> torch.Tensor:
        """Images `start` to `end` − 1 on the device of `rig`."""
        number = torch.arange(start, end, device=rig.device)
        people, shots = number // self.images_per_identity, number % self.images_per_identity
        return render(rig, self.seed, SPLITS[self.split], people, shots, self.size)

    def render_all(self, device: torch.device) -> None:
        """Renders every image on `device` and keeps them in memory; once."""
        if self.kept is not None:
            return
        rig, size, begun = self.rig.to(device), self.size, time.monotonic()
        kept = torch.empty(len(self), size, size, 3, dtype=torch.uint8)
        for start in range(0, len(self), AT_ONCE):
            made = self.render(rig, start, min(start + AT_ONCE, len(self)))
            kept[start : start + len(made)] = made.cpu()
        self.kept, seconds = kept, time.monotonic() - begun
        log.info(
            "rendered %s images on %s in %.1f s, %.0f per second",
            f"{len(self):,}",
            device,
            seconds,
            len(self) / seconds,
        )

    def describe(self) -> str:
        """E.g. "8,000 images of 200 identities, rendered by zoo from ICT-FaceKit (not real faces)"."""
        people = f"{self.num_classes:,} identities"
        return f"{len(self):,} images of {people}, rendered by zoo from ICT-FaceKit (not real faces)"
