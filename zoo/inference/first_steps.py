"""The arithmetic that an ONNX graph applies to its input first, read from the file without the `onnx` package.

Importing that package and parsing the weights would take longer than answering a question with the model. Only the
graph's nodes and its small constants are read here, straight from the file's protobuf fields.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ARITHMETIC = {"Sub": "−", "Add": "+", "Mul": "×", "Div": "/"}
Buffer = memoryview
Numbers = npt.NDArray[np.float64]
UNKNOWN = np.full(1, np.nan)
"""A constant that is too large to be a scale, or lies in another file."""
_MOST = 512
"""Bytes of a constant that scales channels, with its name; larger ones are not read."""
_DTYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
_FIXED = {1: "<d", 5: "<f"}


def first_steps(path: Path, name: str) -> tuple[str, Numbers, Numbers]:
    """What the graph does to its input `name` before anything else: as text, and as x · factor + shift.

    Both are of one or three channels, NaN where a constant is too large to tell. The text is empty without any step.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        view = memoryview(content)
        try:
            return _steps(view, name)
        finally:
            del view


def _steps(content: Buffer, name: str) -> tuple[str, Numbers, Numbers]:
    nodes, constants = [], {}
    for graph in _all(content, 7):
        for number, value in _fields(graph):
            if number == 1:
                node = _Node(value)
                nodes.append(node)
                if node.operator == "Constant":
                    constants[node.outputs[0]] = _constant(value)
            elif number == 5:
                key = next((bytes(text).decode() for text in _all(value, 8)), "")
                constants[key] = _numbers(value)
    steps: list[str] = []
    factor, shift = np.ones(1), np.zeros(1)
    for _ in nodes:  # an upper bound: every turn passes one node
        readers = [node for node in nodes if name in node.inputs]
        if len(readers) != 1:
            break
        (node,) = readers
        others = [other for other in node.inputs if other != name]
        if node.operator in ARITHMETIC and len(others) == 1 and others[0] in constants and node.inputs[0] == name:
            number_ = constants[others[0]]
            told = "a constant" if np.isnan(number_).any() else ", ".join(f"{n:g}" for n in dict.fromkeys(number_))
            steps.append(f"{ARITHMETIC[node.operator]} {told}")
            if node.operator in ("Sub", "Add"):
                shift = shift + (number_ if node.operator == "Add" else -number_)
            else:
                by = number_ if node.operator == "Mul" else 1 / np.where(number_, number_, np.nan)
                factor, shift = factor * by, shift * by
        elif node.operator == "BatchNormalization":
            steps.append("batch norm")
            scale, offset, mean, variance = (constants.get(other, UNKNOWN) for other in node.inputs[1:5])
            each = scale / np.sqrt(variance + 1e-5)
            factor, shift = factor * each, (shift - mean) * each + offset
        elif node.operator not in ("Cast", "Identity", "Transpose"):
            break
        name = node.outputs[0]
    return ", ".join(steps), factor, shift


class _Node:
    """A node's operator and the names of its inputs and outputs."""

    __slots__ = ("inputs", "operator", "outputs")

    def __init__(self, content: Buffer) -> None:
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.operator = ""
        for number, value in _fields(content):
            if number in (1, 2):
                (self.inputs if number == 1 else self.outputs).append(bytes(value).decode())
            elif number == 4:
                self.operator = bytes(value).decode()


def _constant(node: Buffer) -> Numbers:
    """The numbers of a Constant node: its attribute's tensor, or its one float."""
    for attribute in _all(node, 5):
        for number, value in _fields(attribute):
            if number == 5:
                return _numbers(value)
            if number == 2:
                return np.array([value], np.float64)
    return UNKNOWN


def _numbers(tensor: Buffer) -> Numbers:
    """The numbers of a small floating-point tensor, at most one a channel; else UNKNOWN."""
    if len(tensor) > _MOST:
        return UNKNOWN
    found = {number: value for number, value in _fields(tensor) if number != 1}
    dtype = _DTYPES.get(found.get(2, 0))
    content = found.get(9, found.get(4, found.get(10)))
    if isinstance(content, float):  # not packed
        return np.array([content])
    if dtype is None or content is None or len(content) % np.dtype(dtype).itemsize:
        return UNKNOWN
    values = np.frombuffer(bytes(content), dtype).astype(np.float64)
    return values if 1 <= len(values) <= 3 else UNKNOWN


def _all(message: Buffer, field: int) -> Iterator[Any]:
    return (value for number, value in _fields(message) if number == field)


def _fields(message: Buffer) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: (number, int, float or a view of bytes). Stops where the bytes are no field."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
        elif kind in _FIXED:
            size = struct.calcsize(_FIXED[kind])
            if place + size > len(message):
                return
            yield key >> 3, struct.unpack_from(_FIXED[kind], message, place)[0]
            place += size
        elif kind == 2:
            size, place = _varint(message, place)
            yield key >> 3, message[place : place + size]
            place += size
        else:
            return


def _varint(message: Buffer, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            break
    return value, place


def spread(factor: Numbers, shift: Numbers, low: float, high: float) -> float:
    """How far x · factor + shift of x in [low, high] is from [−1, 1]: 0 for exactly that; infinite where unknown."""
    width = float(np.mean(np.abs(factor))) * (high - low) / 2
    middle = float(np.mean(np.abs(factor * (low + high) / 2 + shift)))
    return abs(math.log(width)) + middle / width if 0 < width < math.inf else math.inf
