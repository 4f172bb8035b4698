"""What an ONNX file expects and gives: decided in one place for every command, with the reason.

The facts that zoo writes into a file settle it. Third-party files state nothing, so their graph is read: its layout,
its type, the arithmetic that it applies to its input first, and which of its outputs is the embedding. The order of the
channels cannot be seen in a graph; RGB is assumed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError, closest
from zoo.inference.first_steps import Numbers, first_steps
from zoo.modelinfo import InputSpec, ModelInfo

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What an image input may hold."""
PIXELS = InputSpec(mean=0.0, std=1.0)
UNIT = InputSpec(mean=0.0, std=255.0)
RANGES = ((0.0, 255.0, PIXELS), (-1.0, 1.0, InputSpec()), (0.0, 1.0, UNIT))
"""The ranges of input that face models take: lowest, highest value, and how pixels become that."""
EMBEDDING_NAMES = frozenset({"embedding", "embeddings", "emb", "feature", "features", "feat", "fc1", "face_embedding"})
"""What people call the output that is the embedding, in lower case."""
FEWEST_DIMENSIONS = 16
"""An output of fewer numbers per image beside a longer one is no embedding but a norm, a box, an age."""


@dataclass(frozen=True)
class GivenInput:
    """What a caller states of a model; what is None is taken from the file, or decided by its graph."""

    mean: float | None = None
    """Subtracted from pixel values 0 … 255."""
    std: float | None = None
    """What the difference is divided by."""
    bgr: bool = False
    """Whether the channels are blue, green, red."""
    output: str | None = None
    """The name of the output that is the embedding."""

    def __post_init__(self) -> None:
        for flag, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"expected a finite number for --{flag}, found {value}")

    def over(self, spec: InputSpec) -> InputSpec:
        """`spec` with what is given in its place."""
        return replace(
            spec,
            mean=spec.mean if self.mean is None else self.mean,
            std=spec.std if self.std is None else self.std,
            channel_order="BGR" if self.bgr else spec.channel_order,
        )


@dataclass(frozen=True)
class Decided:
    """The input of a file and the reason."""

    input: InputSpec
    stated: bool
    """Whether the file or the caller states it, so that nothing is guessed."""
    why: str = ""
    """In a sentence; empty where the file states it."""


def decide(
    path: Path, name: str, kind: str, size: Sequence[Any], info: ModelInfo | None, given: GivenInput | InputSpec | None
) -> Decided:
    """How pixels become the input `name` of the file at `path`.

    `kind` is its type in ONNX Runtime's spelling and `size` its height and width, numbers where they are fixed. What is
    `given` comes first, then what the file states (`info`), then what its graph shows, then the field's habit.
    InputError for a scaling of integers.
    """
    steps, range_ = ("", None) if info or isinstance(given, InputSpec) else graph_scaling(path, name)
    spec = info.input if info else (range_ or InputSpec())
    if kind == "tensor(uint8)":
        spec = replace(spec, mean=0.0, std=1.0)
    why = ""
    said = given is not None and (isinstance(given, InputSpec) or given != GivenInput(output=given.output))
    if isinstance(given, InputSpec):
        spec = given
    elif given is not None and said:
        spec = given.over(spec)
        why = f"the input is as given: {spec.channel_order}, {spec.scaling}"
        if range_ and spec.scaling != range_.scaling:
            why += f"; yet the graph scales its input itself ({steps}), which suggests {range_.scaling}"
    elif info is None and kind == "tensor(uint8)":
        why = "the file does not state its input: it takes whole numbers, so RGB from 0 to 255"
    elif info is None and range_:
        why = (
            f"the file does not state its input, but its graph scales it itself ({steps}): RGB and {range_.scaling} "
            "are assumed"
        )
    elif info is None:
        why = (
            "the file does not state its input: RGB and (x − 127.5) / 127.5 are assumed, "
            "as insightface's models have it"
        )
    if kind == "tensor(uint8)" and (spec.mean, spec.std) != (0.0, 1.0):
        raise InputError(f"expected no --mean or --std for {path}, which takes whole numbers, found {spec.scaling}")
    height, width = (side if isinstance(side, int) else own for side, own in zip(size, spec.size, strict=True))
    return Decided(replace(spec, size=(height, width)), info is not None or said, why)


def graph_scaling(path: Path, name: str) -> tuple[str, InputSpec | None]:
    """The arithmetic that the graph applies to its input `name` first, as text, and the input that this suggests.

    insightface's MXNet files begin with "− 127.5, × 0.0078125"; a batch norm on the pixels has the same effect. The
    input is that of RANGES which the arithmetic brings closest to −1 … 1. ("", None) for a graph without any.
    """
    steps, factor, shift = first_steps(path, name)
    distances = [_spread(factor, shift, low, high) for low, high, _ in RANGES]
    best = RANGES[int(np.argmin(distances))][2]  # pixels, the first, where all are infinite
    return steps, best if steps else None


def _spread(factor: Numbers, shift: Numbers, low: float, high: float) -> float:
    """How far x · factor + shift of x in [low, high] is from [−1, 1]: 0 for exactly that; infinite where unknown."""
    width = float(np.mean(np.abs(factor))) * (high - low) / 2
    middle = float(np.mean(np.abs(factor * (low + high) / 2 + shift)))
    return abs(math.log(width)) + middle / width if 0 < width < math.inf else math.inf


def choose_output(path: Path, sizes: Mapping[str, int], wanted: str | None = None) -> tuple[str, str]:
    """Which output is the embedding, and the reason where there are several.

    `sizes` are the floating-point outputs and how many numbers each has per image; `wanted` names one. Without it: the
    only one that is called as embeddings are, or else the only one of at least 16 numbers. InputError otherwise.
    """
    listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
    if wanted is not None:
        if wanted not in sizes:
            near = closest(wanted, sizes)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"expected an output called {wanted} in {path}, found {listed}{guess}")
        return wanted, f"of {len(sizes)} outputs ({listed}) {wanted} is the embedding, as given"
    if len(sizes) == 1:
        return next(iter(sizes)), ""
    least = FEWEST_DIMENSIONS if max(sizes.values()) >= FEWEST_DIMENSIONS else 2
    named = [name for name, size in sizes.items() if size > 1 and name.lower() in EMBEDDING_NAMES]
    reason = "as its name says" if named else "the only one of that many numbers"
    named = named or [name for name, size in sizes.items() if size >= least]
    if len(named) != 1:
        raise InputError(
            f"expected one embedding among the {len(sizes)} outputs of {path}, found {listed}; say which with --output"
        )
    return named[0], f"of {len(sizes)} outputs ({listed}) {named[0]} is taken as the embedding, {reason}"
