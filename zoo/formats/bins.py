"""insightface's pickled pair benchmarks (`lfw.bin`), read without ever running what a pickle asks for.

A .bin is `pickle.dump((images, same))`: encoded pictures, two by two, and whether each two show one person. Python
2, Python 3 and numpy each wrote their own flavour. Python's own interpreter of pickles reads it here with the few
opcodes that the format needs, on a budget, and with harmless stand-ins for the few globals; everything else is refused
by its name.
"""

import math
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

TRUTHS = ("u1", "b1", "uint8", "bool", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "int64", "int32")
"""The types of numpy that truths may have; those of one byte also hold pictures."""
OTHERS = {b"PK\3\4": "a zip archive", b"PAR1": "a parquet file", b"\x1f\x8b": "a gzip archive"}
"""What other files begin with."""

MOST_OPCODES = 600_000
"""What a pickle may consist of: some 250,000 pictures, more than any benchmark has. An opcode makes at most a small
object, a reference or an entry of the memo, so that all of them together take less than 64 MiB."""


def read_bin(path: str | Path) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """The encoded pictures of a .bin, 2·pairs of them, and whether each pair shows one person: bool (pairs,).

    Picture 2i and 2i + 1 are pair i. Memory stays below the file's size + 64 MiB. InputError for a file that is not
    such a pickle, that names any global but those of bytes and uint8 arrays, or whose counts do not match.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            kind = next((kind for magic, kind in OTHERS.items() if content[:4].startswith(magic)), "")
            if kind := "a tar archive" if content[257:262] == b"ustar" else kind:
                raise InputError(f"expected a .bin benchmark at {path}, found {kind}; give it the ending of its kind")
            found = _Unpickler(content).read_benchmark(str(path))
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

    __slots__ = ("content", "dtype", "shape")

    def __init__(self, shape: Any = (), dtype: Any = None, content: Any = b"") -> None:
        self.shape, self.dtype, self.content = shape, dtype, content


class _DType:
    """numpy's name of an element type, "u1" or "b1"."""

    __slots__ = ("name",)

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = _text(name)


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


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytearray"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    **{
        (f"numpy.{core}.multiarray", name): call
        for core in ("core", "_core")
        for name, call in (("_reconstruct", lambda *_: _Array()), ("scalar", _scalar))  # its state is still to come
    },
    **{
        (f"numpy.{core}.numeric", "_frombuffer"): lambda content, dtype, shape, *_: _Array(shape, dtype, content)
        for core in ("core", "_core")
    },
}  #: Every global that the format needs, and the harmless function that answers for it

_OPCODE_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_NEEDED = (
    *("PROTO", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2"),
    *("LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "INST", "STACK_GLOBAL", "REDUCE"),
)  #: The opcodes of the format; those of dictionaries, sets, classes, extensions and persistent names are left out


_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, EOFError, struct.error, pickle.PickleError)
"""What the interpreter raises at opcodes in a wrong order or without their operands."""
_PYTHONS: Any = vars(pickle)["_Unpickler"]
"""The interpreter in Python, whose parts can be left out; that in C cannot be restricted so."""


class _Unpickler(_PYTHONS):  # type: ignore[misc]  # typeshed does not know its parts
    """Python's interpreter of pickles with the opcodes that a benchmark needs, on a budget.

    It reads from a map of the file, which gives no more than there is whatever a forged length announces.
    """

    def __init__(self, content: mmap.mmap) -> None:
        super().__init__(content, encoding="bytes")
        self.content = content
        self.dispatch = self  # an opcode's work is looked up here, one after the other
        self.opcodes = self.start = 0

    def read_benchmark(self, name: str) -> Any:
        """The object that the pickle describes; InputError with the reason where it describes something else."""
        try:
            return self.load()
        except _DAMAGE as error:
            plain = str(error) and isinstance(error, (ValueError, pickle.PickleError))
            reason = str(error) if plain else "an opcode without its operands"
            raise InputError(
                f"expected a .bin benchmark (a pickle of pictures and truths) in {name}, "
                f"found {reason} at byte {self.start:,}; get the file from a source you trust"
            ) from None

    def __getitem__(self, opcode: int) -> Callable[["_Unpickler"], None]:
        self.start, self.opcodes = self.content.tell() - 1, self.opcodes + 1
        if self.opcodes > MOST_OPCODES:
            raise ValueError("more small objects than any benchmark holds")
        if opcode not in _WORK:
            raise ValueError(f"the pickle opcode {_OPCODE_NAMES.get(opcode, opcode)}, which no benchmark needs")
        return _WORK[opcode]

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; ValueError for one that the format has no use for."""
        if (module, name) not in _CALLS:
            raise ValueError(
                f"the global {module[:80]}.{name[:80]}, which a benchmark has no use for and which was not run"
            )
        return _CALLS[module, name]

    def skip_frame(self) -> None:
        """A frame's length only helps readers that read ahead, and would have this one copy the frame."""
        self.read(8)

    def call(self) -> None:
        """REDUCE, for stand-ins alone."""
        if not callable(self.stack[-2]) or not isinstance(self.stack[-1], tuple):
            raise ValueError("a call of something that is no function")
        self.load_reduce()

    def set_state(self) -> None:
        """BUILD, for arrays alone; a dtype's state is its byte order, which one byte has not."""
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, _Array) and isinstance(state, tuple) and len(state) == 5:
            thing.shape, thing.dtype, thing.content = state[1], state[2], state[4]
        elif not isinstance(thing, _DType):
            raise ValueError("a state for something that is no array")


_WORK: dict[int, Callable[[Any], None]] = {
    code: _PYTHONS.dispatch[code] for code, name in _OPCODE_NAMES.items() if name in _NEEDED
} | {
    pickle.FRAME[0]: _Unpickler.skip_frame,
    pickle.BYTEARRAY8[0]: _PYTHONS.dispatch[pickle.BINBYTES8[0]],  # its own would make what is announced
    pickle.REDUCE[0]: _Unpickler.call,
    pickle.BUILD[0]: _Unpickler.set_state,
}


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


def _plain(array: _Array, kinds: tuple[str, ...] = ("u1", "b1", "uint8", "bool")) -> npt.NDArray[np.integer]:
    """The array's elements (n,); ValueError unless it is one row or column of `kinds` that is all there."""
    content, shape = array.content, array.shape
    name = array.dtype.name if isinstance(array.dtype, _DType) else ""
    if not isinstance(shape, tuple) or not isinstance(content, bytes) or name not in kinds:
        raise ValueError(f"an array that is not of {', '.join(kinds)}")
    elements = np.frombuffer(content, {"b1": "u1", "bool": "u1"}.get(name, name))
    if max(shape, default=0) != math.prod(shape) or math.prod(shape) != len(elements):
        raise ValueError("an array that is not one row")
    return elements


def _list(thing: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(thing, (list, tuple)):
        raise ValueError(f"a {type(thing).__name__.strip('_').lower()} where a list belongs")
    return thing


def _truths(thing: Any) -> npt.NDArray[np.bool_]:
    if isinstance(thing, _Array):
        elements = _plain(thing, TRUTHS)
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
