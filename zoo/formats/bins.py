"""insightface's pickled pair benchmarks (`lfw.bin`), read without ever running what a pickle asks for.

A .bin is `pickle.dump((images, same))`: encoded pictures, two by two, and whether each two show one person. Python
2, Python 3 and numpy each wrote their own flavour. `pickle.Unpickler` with a closed `find_class` would still
allocate what a forged length or memo index announces, so the few opcodes that the format needs are interpreted
here, on a budget; everything else is refused by its name.
"""

from __future__ import annotations

import codecs
import mmap
import pickle
import pickletools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.files import atomic_path

BUDGET_BYTES = 56 << 20
"""What the objects around the pictures may take: some 250,000 pictures, more than any benchmark has."""

_OVERHEAD = {"object": 80, "slot": 24, "memo": 120}
"""Bytes that CPython takes for a small object, a reference in a list and an entry of the memo, rounded up.

A reference counts three times: while a list is put together it lies on the stack, in a copy and in the list.
"""


def read_bin(path: str | Path) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """The encoded pictures of a .bin, 2·pairs of them, and whether each pair shows one person: bool (pairs,).

    Picture 2i and 2i + 1 are pair i. Memory stays below the file's size + 64 MiB. InputError for a file that is not
    such a pickle, that names any global but those of bytes and uint8 arrays, or whose counts do not match.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _Machine(content, str(path)).run()
    except OSError as error:
        raise InputError(f"expected a .bin benchmark at {path}, cannot read it ({error.strerror})") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"expected a .bin benchmark at {path}, found an empty file; fetch it again") from None
    return _benchmark(found, str(path))


def write_bin(path: str | Path, images: Sequence[bytes], same: Sequence[bool] | npt.NDArray[np.bool_]) -> None:
    """Writes encoded pictures, two by two, and bool (pairs,) as a .bin that insightface and `read_bin` read.

    ValueError when there are not two pictures a pair. The file is whole or absent.
    """
    if len(images) != 2 * len(same):
        raise ValueError(f"expected two pictures a pair, found {len(images)} for {len(same)} pairs")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(([bytes(image) for image in images], [bool(truth) for truth in same]), file, protocol=5)


class _Array:
    """A numpy array as the pickle describes it: shape, dtype and content, none of them trusted yet."""

    def __init__(self, shape: Any = (), dtype: Any = None, content: Any = b"") -> None:
        self.shape, self.dtype, self.content = shape, dtype, content


class _DType:
    """numpy's name of an element type, "u1" or "b1"."""

    def __init__(self, name: Any) -> None:
        self.name = _text(name)


class _Global:
    """A name that the pickle may call, and what stands in for it."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self.call = name, call


def _encode(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError("a call of _codecs.encode that no bytes need")
    return text.encode("latin-1")


def _bytes(*arguments: Any) -> bytes:
    if arguments and not isinstance(arguments[0], bytes):
        raise ValueError("a call of bytes with something else than bytes")
    return b"".join(arguments)


def _scalar(dtype: Any, content: Any) -> bool:
    """A numpy bool or uint8 on its own."""
    if not isinstance(dtype, _DType) or dtype.name not in ("b1", "u1") or not isinstance(content, bytes):
        raise ValueError("a numpy scalar that is neither bool nor uint8")
    return _truth(content[0] if len(content) == 1 else None)


def _empty_array(*_: Any) -> _Array:
    """`_reconstruct`: an array whose state is still to come."""
    return _Array()


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytearray"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): lambda name, *_: _DType(name),
    **{
        (f"numpy.{core}.multiarray", name): call
        for core in ("core", "_core")
        for name, call in (("_reconstruct", _empty_array), ("scalar", _scalar))
    },
    **{
        (f"numpy.{core}.numeric", "_frombuffer"): lambda content, dtype, shape, *_: _Array(shape, dtype, content)
        for core in ("core", "_core")
    },
}
"""Every global that the format needs, and the harmless function that answers for it."""

_MARK = object()


class _Machine:
    """Interprets a pickle's opcodes on a stack of its own, without importing or calling anything that it names."""

    def __init__(self, content: mmap.mmap, name: str) -> None:
        self.content, self.name = content, name
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = BUDGET_BYTES

    def run(self) -> Any:
        """The object that the pickle describes; InputError with the reason where it describes something else."""
        start = 0
        try:
            while True:
                start = self.position
                code = self.take(1)
                if code == b".":
                    return self.pop()
                operation = _OPERATIONS.get(code)
                if operation is None:
                    raise ValueError(f"the pickle opcode {_OPCODE_NAMES.get(code, code)}, which no benchmark needs")
                operation(self)
        except (ValueError, TypeError, IndexError, KeyError, struct.error) as error:
            reason = str(error) if isinstance(error, ValueError) else "an opcode without its operands"
            raise InputError(
                f"expected a .bin benchmark (a pickle of pictures and truths) in {self.name}, "
                f"found {reason} at byte {start:,}; get the file from a source you trust"
            ) from None

    def spend(self, kind: str, count: int = 1) -> None:
        self.budget -= _OVERHEAD[kind] * count
        if self.budget < 0:
            raise ValueError("more small objects than any benchmark holds")

    def take(self, count: int) -> bytes:
        """The next `count` bytes; a length beyond the file's end is refused before anything is allocated."""
        if count > len(self.content) - self.position:
            raise ValueError(f"an end of file where {count:,} more bytes were announced")
        self.position += count
        return self.content[self.position - count : self.position]

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def line(self, limit: int | None = None) -> bytes:
        end = self.content.find(b"\n", self.position)
        if end < 0 or (limit is not None and end - self.position > limit):
            raise ValueError("a text argument without an end")
        found = self.content[self.position : end]
        self.position = end + 1
        return found

    def push(self, thing: Any) -> None:
        self.spend("slot")
        self.stack.append(thing)

    def create(self, thing: Any) -> None:
        self.spend("object")
        self.push(thing)

    def pop(self) -> Any:
        thing = self.stack.pop()
        self.budget += _OVERHEAD["slot"]
        if thing is _MARK:
            raise ValueError("a mark where an object belongs")
        return thing

    def pop_to_mark(self) -> list[Any]:
        things = []
        while (thing := self.stack.pop()) is not _MARK:
            things.append(thing)
        self.budget += _OVERHEAD["slot"] * (len(things) + 1)
        return things[::-1]

    def extend(self, things: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("an append to something that is no list")
        self.spend("slot", len(things))
        self.stack[-1].extend(things)

    def remember(self, key: int) -> None:
        self.spend("memo")
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"a reference to memo entry {key}, which was never written")
        self.push(self.memo[key])

    def find(self, module: Any, name: Any) -> None:
        module, name = _text(module), _text(name)
        if (module, name) not in _CALLS:
            raise ValueError(
                f"the global {module[:80]}.{name[:80]}, which a benchmark has no use for and which was not run"
            )
        self.create(_Global(f"{module}.{name}", _CALLS[module, name]))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is no function")
        self.create(function.call(*arguments))

    def build(self) -> None:
        state, thing = self.pop(), self.stack[-1]
        if isinstance(thing, _Array) and isinstance(state, tuple) and len(state) == 5:
            thing.shape, thing.dtype, thing.content = state[1], state[2], state[4]
        elif not isinstance(thing, _DType):  # a dtype's state is its byte order, which one byte has not
            raise ValueError("a state for something that is no array")


def _line_integer(machine: _Machine) -> None:
    digits = machine.line(limit=24)
    machine.create({b"00": False, b"01": True}[digits] if digits in (b"00", b"01") else int(digits.rstrip(b"L")))


def _quoted(machine: _Machine) -> None:
    text = machine.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    machine.create(codecs.escape_decode(text[1:-1])[0])


def _counted(width: int, what: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.create(what(machine.take(machine.unsigned(width))))


def _utf8(content: bytes) -> str:
    return str(content, "utf-8", "surrogatepass")


def _global(machine: _Machine) -> None:
    machine.find(machine.line(limit=200), machine.line(limit=200))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _append(machine: _Machine) -> None:
    machine.extend([machine.pop()])


_OPERATIONS: dict[bytes, Callable[[_Machine], object]] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.take(8),  # the frame's length only helps readers that read ahead
    pickle.MARK: lambda m: m.push(_MARK),
    pickle.POP: lambda m: m.pop(),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: _line_integer,
    pickle.LONG: _line_integer,
    pickle.BININT: lambda m: m.create(struct.unpack("<i", m.take(4))[0]),
    pickle.BININT1: lambda m: m.create(m.unsigned(1)),
    pickle.BININT2: lambda m: m.create(m.unsigned(2)),
    pickle.LONG1: lambda m: m.create(int.from_bytes(m.take(min(m.unsigned(1), 9)), "little", signed=True)),
    pickle.STRING: _quoted,
    pickle.BINSTRING: _counted(4, bytes),
    pickle.SHORT_BINSTRING: _counted(1, bytes),
    pickle.BINBYTES: _counted(4, bytes),
    pickle.SHORT_BINBYTES: _counted(1, bytes),
    pickle.BINBYTES8: _counted(8, bytes),
    pickle.BYTEARRAY8: _counted(8, bytes),
    pickle.UNICODE: lambda m: m.create(str(m.line(), "raw-unicode-escape")),
    pickle.BINUNICODE: _counted(4, _utf8),
    pickle.SHORT_BINUNICODE: _counted(1, _utf8),
    pickle.BINUNICODE8: _counted(8, _utf8),
    pickle.EMPTY_LIST: lambda m: m.create([]),
    pickle.LIST: lambda m: m.create(m.pop_to_mark()),
    pickle.APPEND: _append,
    pickle.APPENDS: lambda m: m.extend(m.pop_to_mark()),
    pickle.EMPTY_TUPLE: lambda m: m.create(()),
    pickle.TUPLE: lambda m: m.create(tuple(m.pop_to_mark())),
    pickle.TUPLE1: lambda m: m.create((m.pop(),)),
    pickle.TUPLE2: lambda m: m.create((m.pop(), m.pop())[::-1]),
    pickle.TUPLE3: lambda m: m.create((m.pop(), m.pop(), m.pop())[::-1]),
    pickle.PUT: lambda m: m.remember(int(m.line(limit=20))),
    pickle.BINPUT: lambda m: m.remember(m.unsigned(1)),
    pickle.LONG_BINPUT: lambda m: m.remember(m.unsigned(4)),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
    pickle.GET: lambda m: m.recall(int(m.line(limit=20))),
    pickle.BINGET: lambda m: m.recall(m.unsigned(1)),
    pickle.LONG_BINGET: lambda m: m.recall(m.unsigned(4)),
    pickle.GLOBAL: _global,
    pickle.INST: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: lambda m: m.reduce(),
    pickle.BUILD: lambda m: m.build(),
}
"""What each opcode of the format does; those of dictionaries, sets, classes and persistent names are left out."""

_OPCODE_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


def _text(thing: Any) -> str:
    if isinstance(thing, bytes):
        return thing.decode("latin-1")
    if not isinstance(thing, str):
        raise ValueError("a name that is no text")
    return thing


def _truth(thing: Any) -> bool:
    if isinstance(thing, int) and thing in (0, 1):
        return bool(thing)
    raise ValueError("a truth that is neither true nor false")


def _plain(array: _Array) -> npt.NDArray[np.uint8]:
    """The array's elements as uint8 (n,); ValueError unless it is one row of uint8 or bool that is all there."""
    content, shape = array.content, array.shape
    one_row = isinstance(shape, tuple) and len(shape) == 1 and isinstance(content, bytes) and shape[0] == len(content)
    if not one_row or not isinstance(array.dtype, _DType) or array.dtype.name not in ("u1", "b1", "uint8", "bool"):
        raise ValueError("an array that is not one row of uint8 or bool")
    return np.frombuffer(content, np.uint8)


def _list(thing: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(thing, (list, tuple)):
        raise ValueError(f"a {type(thing).__name__.strip('_').lower()} where a list belongs")
    return thing


def _truths(thing: Any) -> npt.NDArray[np.bool_]:
    if isinstance(thing, _Array):
        elements = _plain(thing)
        if not (elements <= 1).all():
            raise ValueError("a truth that is neither true nor false")
        return elements.astype(np.bool_)
    return np.fromiter((_truth(item) for item in _list(thing)), np.bool_)


def _picture(thing: Any) -> bytes:
    if isinstance(thing, _Array):
        _plain(thing)
        return bytes(thing.content)
    if isinstance(thing, str):  # a Python 2 string that passed through a Python 3 with encoding="latin1"
        return thing.encode("latin-1")
    if not isinstance(thing, bytes):
        raise ValueError(f"a {type(thing).__name__.strip('_').lower()} where a picture belongs")
    return thing


def _benchmark(found: Any, name: str) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    try:
        if not isinstance(found, (list, tuple)) or len(found) != 2:
            raise ValueError("something that is no pair (pictures, truths)")
        images = [_picture(thing) for thing in _list(found[0])]
        same = _truths(found[1])
        if len(images) != 2 * len(same) or not len(same):
            raise ValueError(f"{len(images)} pictures for {len(same)} pairs")
    except ValueError as error:
        raise InputError(
            f"expected two pictures a pair and one truth a pair in {name}, found {error}; fetch the file again"
        ) from None
    return images, same
