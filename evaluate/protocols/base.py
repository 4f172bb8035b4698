"""What every protocol offers: images to embed, then figures from the embeddings. It never loads a model."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.registry import Registry

Figures = dict[str, Any]
"""Names to numbers, lists and sentences, fit for JSON but for NaN, which stands for "not measurable"."""


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's outcome: the figures, and the curves that a report draws."""

    figures: Figures
    curves: Figures = field(default_factory=dict)


class Protocol(typing.Protocol):
    """A benchmark at hand: embeddings = embed(embedder, protocol.images()); protocol.score(embeddings)."""

    name: str
    """The protocol's name in PROTOCOLS."""
    data: str
    """The benchmark's name, e.g. that of its file."""
    data_sha256: str
    """What the benchmark's content hashes to."""

    def __len__(self) -> int:
        """How many images there are to embed."""
        ...

    def images(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The pictures in the order of the embeddings: RGB uint8 (H, W, 3), one at a time."""
        ...

    def score(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Figures:
        """The figures for raw embeddings (images, dim), which the protocol normalises as it defines."""
        ...

    def evaluate(self, embeddings: npt.NDArray[np.floating], compat: str | None = None) -> Evaluation:
        """The figures and the curves."""
        ...


PROTOCOLS: Registry[type[Protocol]] = Registry("protocol")
"""Every protocol's class by its name; the first line of a class's docstring describes it."""

COMPATS = ("insightface",)


def describe(name: str) -> str:
    """The one line that tells what a protocol measures."""
    return (PROTOCOLS[name].__doc__ or "").strip().splitlines()[0]


def check_embeddings(embeddings: npt.NDArray[np.floating], images: int) -> None:
    """InputError unless there is one embedding an image."""
    if embeddings.ndim != 2 or len(embeddings) != images:
        raise InputError(f"expected one embedding for each of {images} images, found an array of {embeddings.shape}")


def check_compat(compat: str | None) -> None:
    """InputError for a compatibility mode that nobody knows."""
    if compat is not None and compat not in COMPATS:
        raise InputError(f"expected the compatibility mode {' or '.join(COMPATS)}, found {compat!r}")
