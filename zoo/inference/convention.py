"""What an ONNX file expects and gives: decided in one place for every command, with the reason.

The facts that zoo writes into a file settle it. Third-party files state nothing, so their graph is read: its layout,
its type, the arithmetic that it applies to its input first, and which of its outputs is the embedding. The order of the
channels cannot be seen in a graph; RGB is assumed.
"""

import math
import mmap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, closest
from zoo.modelinfo import InputSpec, ModelInfo

Numbers = npt.NDArray[np.float64]
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
TYPES = {**FLOATS, "tensor(uint8)": np.uint8}  #: What an image input may hold
PIXELS, UNIT = InputSpec(mean=0.0, std=1.0), InputSpec(mean=0.0, std=255.0)
RANGES = ((0.0, 255.0, PIXELS), (-1.0, 1.0, InputSpec()), (0.0, 1.0, UNIT))
"""The ranges of input that face models take: lowest, highest value, and how pixels become that."""
EMBEDDING_NAMES = frozenset({"embedding", "embeddings", "emb", "feature", "features", "feat", "fc1", "face_embedding"})
"""What people call the output that is the embedding, in lower case."""
FEWEST_DIMENSIONS = 16  #: A shorter output beside a longer one is no embedding but a norm, a box, an age


@dataclass(frozen=True)
class GivenInput:
    """What a caller states of a model; what is None is taken from the file, or decided by its graph."""

    mean: float | None = None  #: Subtracted from pixel values 0 … 255
    std: float | None = None  #: What the difference is divided by
    bgr: bool = False  #: Whether the channels are blue, green, red
    output: str | None = None  #: The name of the output that is the embedding

    def __post_init__(self) -> None:
        for flag, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"expected a finite number for --{flag}, found {value}")

    def over(self, spec: InputSpec) -> InputSpec:
        mean, std = spec.mean if self.mean is None else self.mean, spec.std if self.std is None else self.std
        return replace(spec, mean=mean, std=std, channel_order="BGR" if self.bgr else spec.channel_order)


def decide(
    path: Path, name: str, kind: str, size: Sequence[Any], info: ModelInfo | None, given: GivenInput | InputSpec | None
) -> tuple[InputSpec, bool, str]:
    """How pixels become the input `name` of the file at `path`, whether that is stated, and why in a sentence.

    `kind` is its type in ONNX Runtime's spelling and `size` its height and width, numbers where they are fixed. What is
    `given` comes first, then what the file states (`info`, without a sentence), then the one of RANGES which the first
    arithmetic of its graph brings closest to −1 … 1 (insightface's MXNet files begin with "− 127.5, × 0.0078125"; a
    batch norm on the pixels has the same effect), then the field's habit. InputError for a scaling of integers.
    """
    steps, range_ = "", None
    if not info and not isinstance(given, InputSpec):
        steps, factor, shift = first_steps(path, name)
        distances = [_spread(factor, shift, low, high) for low, high, _ in RANGES]
        range_ = RANGES[int(np.argmin(distances))][2] if steps else None  # pixels, the first, where all are infinite
    spec, whole, why = info.input if info else (range_ or InputSpec()), kind == "tensor(uint8)", ""
    if whole:
        spec = replace(spec, mean=0.0, std=1.0)
    said = given is not None and (isinstance(given, InputSpec) or given != GivenInput(output=given.output))
    if isinstance(given, InputSpec):
        spec = given
    elif given is not None and said:
        spec = given.over(spec)
        why = f"the input is as given: {spec.channel_order}, {spec.scaling}"
        if range_ and spec.scaling != range_.scaling:
            why += f"; yet the graph scales its input itself ({steps}), which suggests {range_.scaling}"
    elif info is None:
        assumed = ": RGB and (x − 127.5) / 127.5 are assumed, as insightface's models have it"
        if whole:
            assumed = ": it takes whole numbers, so RGB from 0 to 255"
        elif range_:
            assumed = f", but its graph scales it itself ({steps}): RGB and {range_.scaling} are assumed"
        why = f"the file does not state its input{assumed}"
    if whole and (spec.mean, spec.std) != (0.0, 1.0):
        raise InputError(f"expected no --mean or --std for {path}, which takes whole numbers, found {spec.scaling}")
    height, width = (side if isinstance(side, int) else own for side, own in zip(size, spec.size, strict=True))
    return replace(spec, size=(height, width)), info is not None or said, why


def _spread(factor: Numbers, shift: Numbers, low: float, high: float) -> float:
    """How far x · factor + shift of x in [low, high] is from [−1, 1]: 0 for exactly that; infinite where unknown."""
    width = float(np.mean(np.abs(factor))) * (high - low) / 2
    middle = float(np.mean(np.abs(factor * (low + high) / 2 + shift)))
    return abs(math.log(width)) + middle / width if 0 < width < math.inf else math.inf


def choose_output(path: Path, sizes: Mapping[str, int], wanted: str | None = None) -> tuple[str, str]:
    """Which output is the embedding, and the reason where there are several.

    `sizes` are the floating-point outputs and how many numbers each has per image (0: unknown); `wanted` names one. If
    None: the only one that is called as embeddings are, or else the only one of at least 16 numbers. Else InputError.
    """
    listed = ", ".join(f"{name} ({size})" if size else name for name, size in sizes.items())
    if wanted is not None:
        if wanted not in sizes:
            guess = "".join(f"; did you mean {near}?" for near in closest(wanted, sizes, 1))
            raise InputError(f"expected an output called {wanted} in {path}, found {listed}{guess}")
        return wanted, f"of {len(sizes)} outputs ({listed}) {wanted} is the embedding, as given"
    if len(sizes) == 1:
        return next(iter(sizes)), ""
    least = FEWEST_DIMENSIONS if max(sizes.values()) >= FEWEST_DIMENSIONS else 2
    named = [name for name, size in sizes.items() if size > 1 and name.lower() in EMBEDDING_NAMES]
    reason = "as its name says" if named else "the only one of that many numbers"
    named = named or [name for name, size in sizes.items() if size >= least]
    if len(named) != 1:
        found = f"found {listed}; say which with --output"
        raise InputError(f"expected one embedding among the {len(sizes)} outputs of {path}, {found}")
    return named[0], f"of {len(sizes)} outputs ({listed}) {named[0]} is taken as the embedding, {reason}"


ARITHMETIC = {"Sub": "−", "Add": "+", "Mul": "×", "Div": "/"}
UNKNOWN = np.full(1, np.nan)  #: A constant that is too large to be a scale, or lies in another file
_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}


def first_steps(path: Path, name: str) -> tuple[str, Numbers, Numbers]:
    """What the graph does to its input `name` before anything else: as text, and as x · factor + shift.

    Both are of one or three channels, NaN where a constant is too large to tell. The text is empty without any step.
    """
    nodes, constants = list[tuple[str, list[str], list[str]]](), dict[str, Numbers]()  # operator, inputs, outputs
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        graph = _fields(content, *_fields(content, 0, len(content))[7][0])
        for place in graph[5]:
            for part in _fields(content, *place)[8]:
                constants[content[slice(*part)].decode()] = _numbers(content, *place)
        for place in graph[1]:
            parts = _fields(content, *place)
            inputs, outputs, kind = ([content[slice(*p)].decode() for p in parts[n]] for n in (1, 2, 4))
            nodes.append(("".join(kind), inputs, outputs))
            tensors = [tensor for attribute in parts[5] for tensor in _fields(content, *attribute)[5]]
            if kind == ["Constant"] and tensors:
                constants[outputs[0]] = _numbers(content, *tensors[0])
    steps: list[str] = []
    factor, shift = np.ones(1), np.zeros(1)
    for _ in nodes:  # an upper bound: every turn passes one node
        readers = [node for node in nodes if name in node[1]]
        if len(readers) != 1:
            break
        operator, inputs, outputs = readers[0]
        numbers = [constants.get(other, UNKNOWN) for other in inputs if other != name]
        if operator in ARITHMETIC and len(inputs) == 2 and inputs[0] == name and inputs[1] in constants:
            (number,) = numbers
            told = "a constant" if np.isnan(number).any() else ", ".join(f"{n:g}" for n in dict.fromkeys(number))
            steps.append(f"{ARITHMETIC[operator]} {told}")
            if operator in ("Sub", "Add"):
                shift = shift + (number if operator == "Add" else -number)
            else:
                by = number if operator == "Mul" else 1 / np.where(number, number, np.nan)
                factor, shift = factor * by, shift * by
        elif operator == "BatchNormalization":
            steps.append("batch norm")
            scale, offset, mean, variance = numbers
            each = scale / np.sqrt(variance + 1e-5)
            factor, shift = factor * each, (shift - mean) * each + offset
        elif operator not in ("Cast", "Identity", "Transpose"):
            break
        name = outputs[0]
    return ", ".join(steps), factor, shift


def _numbers(content: mmap.mmap, start: int, stop: int) -> Numbers:
    """The numbers of a floating-point tensor of at most three; else UNKNOWN."""
    found = _fields(content, start, stop)
    kind = _DTYPES.get(_varint(content, found[2][-1][0])[0]) if found[2] else None
    places = [*found[9], *found[4], *found[10]]
    if kind is None or not places or not 0 < places[0][1] - places[0][0] <= 24:  # bytes of three doubles
        return UNKNOWN
    values = np.frombuffer(content[slice(*places[0])], kind).astype(np.float64)
    return values if len(values) <= 3 else UNKNOWN


def _fields(content: mmap.mmap, start: int, stop: int) -> dict[int, list[tuple[int, int]]]:
    """The fields of a protobuf message: where the values of each number begin and end."""
    found = defaultdict[int, list[tuple[int, int]]](list)
    while start < stop:
        key, start = _varint(content, start)
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 2:
            size, start = _varint(content, start)
        end = _varint(content, start)[1] if size is None else start + size
        found[key >> 3].append((start, end))
        start = end
    return found


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[place]) > 127:
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
    return value | byte << shift, place + 1
