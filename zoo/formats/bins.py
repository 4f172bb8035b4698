"""insightface's pickled pair benchmarks (`lfw.bin`), read without ever running what a pickle asks for.

A .bin is `pickle.dump((images, same))`: encoded pictures, two by two, and whether each two show one person. Python
2, Python 3 and numpy each wrote their own flavour. `zoo.formats.pickles` makes plain data of it, on a budget and with
the few names that the format needs; what these would have made of their arguments is worked out here.
"""

import math
import mmap
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, explained
from zoo.files import atomic_path
from zoo.formats.pickles import Call, unpickle

PICTURES = ("u1", "b1", "uint8", "bool")
TRUTHS = (*PICTURES, "i1", "i2", "i4", "i8", "u2", "u4", "u8", "int64", "int32")
"""The types of numpy that truths may have; those of one byte also hold pictures."""
OTHERS = {b"PK\3\4": "a zip archive", b"PAR1": "a parquet file", b"\x1f\x8b": "a gzip archive"}
"""What other files begin with."""
MOST_OPCODES = 600_000  #: Some 250,000 pictures, more than any benchmark has; all of it takes below 64 MiB
BYTES = tuple(f"{module}.{kind}" for module in ("__builtin__", "builtins") for kind in ("bytes", "bytearray"))
LATIN = ("latin1", "latin-1", b"latin1", b"latin-1")
NAMES = {"_codecs.encode", *BYTES, "numpy.ndarray", "numpy.dtype"}
NAMES |= {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
NAMES |= {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
"""Every global that the format needs."""


def read_bin(path: str | Path) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """The encoded pictures of a .bin, 2·pairs of them, and whether each pair shows one person: bool (pairs,).

    Picture 2i and 2i + 1 are pair i. Memory stays below the file's size + 64 MiB. InputError for a file that is not
    such a pickle, that names any global but those of bytes and uint8 arrays, or whose counts do not match.
    """
    path = Path(path)
    with explained(f"expected a .bin benchmark at {path}, cannot read it", OSError), open(path, "rb") as file:
        if not path.stat().st_size:
            raise InputError(f"expected a .bin benchmark at {path}, found an empty file; fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            kind = next((kind for magic, kind in OTHERS.items() if content[:4].startswith(magic)), "")
            if kind := "a tar archive" if content[257:262] == b"ustar" else kind:
                raise InputError(f"expected a .bin benchmark at {path}, found {kind}; give it the ending of its kind")
            told = f"expected a .bin benchmark (a pickle of pictures and truths) in {path}, found another pickle"
            with explained(told, Exception, advice="get the file from a source you trust"):
                found = unpickle(content, names=NAMES, most_opcodes=MOST_OPCODES, encoding="bytes")
    with explained(f"expected two pictures a pair and one truth a pair in {path}", ValueError, advice="fetch it again"):
        return _benchmark(found, path.stat().st_size)


def write_bin(path: str | Path, images: Sequence[bytes], same: Sequence[bool] | npt.NDArray[np.bool_]) -> None:
    """Writes encoded pictures, two a pair (else ValueError), and bool (pairs,) as insightface's .bin, atomically."""
    if len(images) != 2 * len(same):
        raise ValueError(f"expected two pictures a pair, found {len(images)} for {len(same)} pairs")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(([bytes(image) for image in images], [bool(truth) for truth in same]), file, protocol=5)


def _benchmark(found: Any, most: int) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise ValueError("something that is no pair (pictures, truths)")
    pictures, truths = found
    made: dict[int, bytes] = {}  # a picture that the list names several times is made once
    for thing in _list(pictures):
        if id(thing) not in made:
            made[id(thing)] = _picture(thing, most)
            most -= len(made[id(thing)])
    stated = map(int, _elements(truths, TRUTHS, most)) if isinstance(truths, Call) else _list(truths)
    same = np.fromiter(map(_truth, stated), np.bool_)
    if len(pictures) != 2 * len(same) or not len(same):
        raise ValueError(f"{len(pictures)} pictures for {len(same)} pairs")
    return [made[id(thing)] for thing in pictures], same


def _list(thing: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(thing, (list, tuple)):
        raise ValueError(f"a {type(thing).__name__.lower()} where a list belongs")
    return thing


def _truth(thing: Any) -> bool:
    if isinstance(thing, Call) and thing.path.endswith(".scalar") and len(thing.args) == 2:  # a numpy bool or uint8
        content = _bytes(thing.args[1], 1)
        thing = content[0] if len(content) == 1 and _type(thing.args[0]) in ("b1", "u1") else None
    if isinstance(thing, int) and thing in (0, 1):
        return bool(thing)
    raise ValueError("a truth that is neither true nor false")


def _picture(thing: Any, most: int) -> bytes:
    if isinstance(thing, Call) and thing.path.startswith("numpy."):
        return _elements(thing, PICTURES, most).tobytes()
    return _bytes(thing, most)


def _bytes(thing: Any, most: int) -> bytes:
    """What Python 2, which has no bytes, and Python 3 for it write in their place; ValueError beyond `most` bytes."""
    for _ in range(2):  # a bytearray of bytes
        if isinstance(thing, Call) and thing.path in BYTES and len(thing.args) <= 1:
            thing = thing.args[0] if thing.args else b""
    if isinstance(thing, Call) and thing.path == "_codecs.encode" and len(thing.args) == 2 and thing.args[1] in LATIN:
        thing = thing.args[0]
    if not isinstance(thing, (bytes, str)):
        raise ValueError(f"a {type(thing).__name__.lower()} where a picture belongs")
    if len(thing) > most:  # before a copy is made: one text may be named a hundred thousand times
        raise ValueError(f"{len(thing):,} bytes where at most {most:,} can be")
    return thing.encode("latin-1") if isinstance(thing, str) else thing


def _type(thing: Any) -> str:
    """numpy's name of an element type, "u1" or "b1"; empty for anything else."""
    name = thing.args[0] if isinstance(thing, Call) and thing.path == "numpy.dtype" and thing.args else ""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return text if isinstance(text, str) else ""


def _elements(array: Call, kinds: tuple[str, ...], most: int) -> npt.NDArray[np.integer]:
    """The array's elements (n,); ValueError unless it is one row or column of `kinds` that is all there."""
    if array.path.endswith("_frombuffer") and len(array.args) >= 3:
        content, kind, shape = array.args[:3]
    elif isinstance(array.state, tuple) and len(array.state) == 5:  # version, shape, type, order and content
        _, shape, kind, _, content = array.state
    else:
        raise ValueError("an array without its content")
    if (name := _type(kind)) not in kinds:
        raise ValueError(f"an array that is not of {', '.join(kinds)}")
    elements = np.frombuffer(_bytes(content, most), {"b1": "u1", "bool": "u1"}.get(name, name))
    whole = isinstance(shape, tuple) and all(isinstance(length, int) for length in shape)
    if not whole or max(shape, default=0) != math.prod(shape) or math.prod(shape) != len(elements):
        raise ValueError("an array that is not one row")
    return elements
