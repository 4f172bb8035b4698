"""The arithmetic that an ONNX graph applies to its input first, read from the file without the `onnx` package.

Importing that package and parsing the weights would take longer than answering a question with the model. Only the
graph's nodes and its small constants are read here, straight from the file's protobuf fields.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ARITHMETIC = {"Sub": "−", "Add": "+", "Mul": "×", "Div": "/"}
PASSED = ("Cast", "Identity", "Transpose")
Numbers = npt.NDArray[np.float64]
UNKNOWN = np.full(1, np.nan)
"""A constant that is too large to be a scale, or lies in another file."""
_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}


def first_steps(path: Path, name: str) -> tuple[str, Numbers, Numbers]:
    """What the graph does to its input `name` before anything else: as text, and as x · factor + shift.

    Both are of one or three channels, NaN where a constant is too large to tell. The text is empty without any step.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        nodes, constants = _graph(content)
    steps: list[str] = []
    factor, shift = np.ones(1), np.zeros(1)
    for _ in nodes:  # an upper bound: every turn passes one node
        readers = [node for node in nodes if name in node[1]]
        if len(readers) != 1:
            break
        operator, inputs, outputs = readers[0]
        numbers = [constants.get(other, UNKNOWN) for other in inputs if other != name]
        known = len(inputs) == 2 and inputs[0] == name and inputs[1] in constants
        if operator in ARITHMETIC and known:
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
        elif operator not in PASSED:
            break
        name = outputs[0]
    return ", ".join(steps), factor, shift


Node = tuple[str, list[str], list[str]]
"""An operator, and the names of its inputs and outputs."""


def _graph(content: mmap.mmap) -> tuple[list[Node], dict[str, Numbers]]:
    """The nodes of a model's graph, and its constants by name."""
    nodes: list[Node] = []
    constants: dict[str, Numbers] = {}
    for number, start, stop in _fields(
        content, *next(place for n, *place in _fields(content, 0, len(content)) if n == 7)
    ):
        parts: dict[int, list[Any]] = {}
        for field, *place in _fields(content, start, stop):
            parts.setdefault(field, []).append(place)
        if number == 1:
            inputs, outputs, (operator,) = ([_text(content, p) for p in parts.get(n, [[0, 0]])] for n in (1, 2, 4))
            nodes.append((operator, inputs, outputs))
            tensors = [p for attribute in parts.get(5, []) for n, *p in _fields(content, *attribute) if n == 5]
            if operator == "Constant" and tensors:
                constants[outputs[0]] = _numbers(content, *tensors[0])
        elif number == 5 and 8 in parts:
            constants[_text(content, parts[8][0])] = _numbers(content, start, stop)
    return nodes, constants


def _text(content: mmap.mmap, place: list[int]) -> str:
    return content[slice(*place)].decode()


def _numbers(content: mmap.mmap, start: int, stop: int) -> Numbers:
    """The numbers of a floating-point tensor of at most three; else UNKNOWN."""
    found = {number: place for number, *place in _fields(content, start, stop)}
    kind = _DTYPES.get(_varint(content, found[2][0])[0]) if 2 in found else None
    place = next((found[number] for number in (9, 4, 10) if number in found), None)
    if kind is None or place is None or not 0 < place[1] - place[0] <= 3 * struct.calcsize("d"):
        return UNKNOWN
    values = np.frombuffer(content[slice(*place)], kind).astype(np.float64)
    return values if len(values) <= 3 else UNKNOWN


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a protobuf message: number, and where its value begins and ends."""
    while start < stop:
        key, start = _varint(content, start)
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 2:
            size, start = _varint(content, start)
        end = _varint(content, start)[1] if size is None else start + size
        yield key >> 3, start, end
        start = end


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[place]) > 127:
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
    return value | byte << shift, place + 1
