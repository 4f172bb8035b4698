"""safetensors files as memory maps: a large one is written row by row, and opening it reads nothing but its header."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import explained
from zoo.files import atomic_path

CODES = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "I8": np.int8, "U8": np.uint8}
"""The names that safetensors gives to numpy's types."""
Arrays = dict[str, npt.NDArray[Any]]


def write_mapped(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Writes arrays and texts, whole or not at all; wider items come first, so that each array starts aligned."""
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    names = {np.dtype(dtype): name for name, dtype in CODES.items()}
    header: dict[str, Any] = {"__metadata__": dict(facts)}
    at = 0
    for name, array in ordered:
        offsets = [at, at := at + array.nbytes]
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            array.tofile(file)


def open_mapped(path: str | Path) -> tuple[Arrays, dict[str, str]]:
    """The arrays, read-only maps of the file, and the texts; ValueError where it is another file or is cut off."""
    arrays: Arrays = {}
    with open(path, "rb") as file:  # maps are of this file too: another may take its name at any moment
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length) if length < 2**20 else b"")
        with explained("no header of safetensors", KeyError, TypeError, AttributeError, kind=ValueError):
            facts: dict[str, str] = header.pop("__metadata__")
            for name, entry in header.items():
                dtype, shape, (start, end) = CODES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
                if math.prod(shape) * np.dtype(dtype).itemsize != end - start:
                    raise ValueError(f"{name} has {end - start} bytes for the shape {shape}")
                arrays[name] = np.empty(shape, dtype)
                if end > start:  # a file that was cut off is too short to map: ValueError
                    arrays[name] = np.memmap(file, dtype, "r", 8 + length + start, shape)
    return arrays, facts
