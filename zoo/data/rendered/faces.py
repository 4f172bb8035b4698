"""Rendered faces as a training set."""

import functools
import time
from pathlib import Path

import numpy as np
import torch

from zoo.data.rendered.facekit import read_facekit
from zoo.data.rendered.rig import Rig
from zoo.data.rendered.scene import render
from zoo.errors import InputError
from zoo.formats.images import Image
from zoo.messages import log

AT_ONCE = 256  #: Images that a GPU renders together


class RenderedFaces:
    """Faces of `people` people, `images` of each, rendered from the morphable model in `folder` at `size`.

    An image is rendered on demand by the CPU, or all of them at once by a GPU (`render_all`). No person is in the sets
    of two seeds. InputError for what `read_facekit` refuses and for numbers outside their range.
    """

    name = "rendered"

    def __init__(
        self, folder: str | Path, people: int, images: int, seed: int = 0, size: tuple[int, int] = (112, 112)
    ) -> None:
        if people < 2 or images < 1 or not 0 <= seed < 2**32 or size[0] != size[1] or not 48 <= size[0] <= 336:
            wanted = "at least 2 rendered people, an image of each, a seed of 32 bits and square crops of 48 to 336 px"
            raise InputError(f"expected {wanted}, found {people}, {images}, {seed} and {size}")
        self.num_classes, self.images, self.seed, self.size = people, images, seed, size[0]
        self.labels = np.repeat(np.arange(people, dtype=np.int64), images)
        self.kit = read_facekit(folder)
        self.kept: torch.Tensor | None = None  #: Every image, uint8 (images, size, size, 3), after `render_all`

    @functools.cached_property
    def rig(self) -> Rig:
        """What a CPU renders with."""
        return Rig(self.kit)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Image:
        """Image `i` as RGB uint8 (size, size, 3); IndexError where there is none."""
        i = range(len(self))[i]
        return np.asarray((self.render(self.rig, i, i + 1)[0] if self.kept is None else self.kept[i]).numpy())

    @torch.inference_mode()
    def render(self, rig: Rig, start: int, end: int) -> torch.Tensor:
        """Images `start` to `end` − 1 on the device of `rig`."""
        number = torch.arange(start, end, device=rig.mean.device)
        return render(rig, self.seed, number // self.images, number % self.images, self.size)

    def render_all(self, device: torch.device) -> None:
        """Renders every image on `device` and keeps them in memory; once."""
        if self.kept is not None:
            return
        rig, begun = self.rig.to(device), time.monotonic()
        kept = torch.empty(len(self), self.size, self.size, 3, dtype=torch.uint8)
        for start in range(0, len(self), AT_ONCE):
            end = min(start + AT_ONCE, len(self))
            kept[start:end] = self.render(rig, start, end)
        self.kept, seconds = kept, time.monotonic() - begun
        log.info("rendered %d images on %s, %.0f per second", len(self), device, len(self) / seconds)

    def describe(self) -> str:
        return f"{len(self):,} images of {self.num_classes:,} identities, rendered by zoo from ICT-FaceKit"
