"""A pickle as plain data: nothing that it names is imported, and nothing in it is ever called.

`pickle.Unpickler` with a closed `find_class` would still let a pickle call what is left open and set attributes of it.
Here the opcodes that call, import or look up something are our own: a name becomes a `Name`, a call a `Call`.
"""

import pickle
import pickletools
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import IO, Any

KEYS = (str, int, float, bool, type(None))
"""What a key may be: text or a number. Hashing a deeply nested tuple would overflow the interpreter's stack."""
_PYTHONS: Any = vars(pickle)["_Unpickler"]  #: The interpreter in Python, whose parts can be left out


@dataclass(frozen=True, eq=False, repr=False)
class Name:
    """Something that the pickle names, such as collections.OrderedDict; it is not looked up."""

    path: str


class Call(dict[Any, Any]):
    """What the pickle would make by a call, and its items; `state` is what it would have been given."""

    __slots__ = ("args", "path", "state")

    def __init__(self, path: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.path, self.args = path, args
        self.state: Any = None


def unpickle(
    file: IO[bytes] | Any,
    *,
    persistent: Callable[[Any], Any] | None = None,
    names: Container[str] | None = None,
    most_bytes: int | None = None,
    most_opcodes: int | None = None,
    encoding: str = "ASCII",
) -> Any:
    """The data of the pickle that begins where `file` stands, an open file or a map of one.

    `persistent` makes of a persistent id what stands for it, `names` are those that it may name, None all, and
    `encoding` is pickle's, for the texts of Python 2. ValueError, or whatever a damaged pickle makes Python's own
    reader raise, for one that goes beyond `most_bytes` or `most_opcodes` or uses what no data needs. An opcode makes at
    most a small object, a reference or an entry of the memo.
    """
    reader = _Reader(file if most_bytes is None else _Limited(file, most_bytes), encoding=encoding)
    reader.persistent, reader.names, reader.most_opcodes = persistent, names, most_opcodes
    reader.dispatch = reader  # an opcode's work is looked up there, one after the other
    return reader.load()


class _Limited:
    """A file that a pickle is read from, up to the limit; a length beyond it is refused before it is allocated."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.left, self.most = file, most, most

    def read(self, count: int) -> bytes:
        self.left -= count
        if self.left < 0:
            raise ValueError(f"more than the {self.most:,} bytes that it may have")
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, 4096))
        self.left -= len(line)
        return line


class _Reader(_PYTHONS):  # type: ignore[misc]  # typeshed does not know its parts
    """Python's own unpickler without every opcode that imports, calls or sets anything."""

    opcodes = 0  #: How many have been read

    def __getitem__(self, opcode: int) -> Callable[["_Reader"], None]:
        self.opcodes += 1
        if self.most_opcodes is not None and self.opcodes > self.most_opcodes:
            raise ValueError("more small objects than it may hold")
        if opcode not in _WORK:
            raise ValueError(f"the pickle opcode {_OPCODES.get(opcode, opcode)}, which no data needs")
        return _WORK[opcode]

    def find_class(self, module: str, name: str) -> Any:
        """What GLOBAL and STACK_GLOBAL push."""
        path = f"{module}.{name}"[:200]
        if self.names is not None and path not in self.names:
            raise ValueError(f"the global {path}, which is of no use there and which was not run")
        return Name(path)

    def persistent_load(self, pid: Any) -> Any:
        """What BINPERSID pushes."""
        if self.persistent is None:
            raise ValueError("a reference to something outside")
        return self.persistent(pid)

    def load_frame(self) -> None:
        """A frame's length only helps readers that read ahead, and would have this one copy the frame."""
        self.read(8)

    def load_bytearray8(self) -> None:
        self.load_binbytes8()  # Python's own would make what is announced

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise ValueError("a call of something that is no function")
        self.append({} if function.path == "collections.OrderedDict" else Call(function.path, args))

    load_newobj = load_reduce

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def load_dict(self) -> None:
        made: dict[Any, Any] = {}
        _put(made, self.pop_mark())
        self.append(made)

    def load_append(self) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    load_additems = load_appends

    def load_empty_set(self) -> None:
        self.append(Call("builtins.set"))

    def load_frozenset(self) -> None:
        self.append(Call("builtins.frozenset", tuple(self.pop_mark())))


def _put(target: Any, items: list[Any]) -> None:
    """Items, keys and values in turn, into a dictionary or a `Call`; those with other keys are left out."""
    if not isinstance(target, dict):
        raise ValueError("an item of something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, KEYS):
            target[key] = value


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Call):  # a set or a deque, whose elements nobody looks at
        raise ValueError("an element of something that is no list")


_OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_UNCHANGED = (
    *("PROTO", "MARK", "STOP", "POP", "POP_MARK", "DUP", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "EMPTY_LIST", "LIST", "EMPTY_DICT"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET"),
)  #: Opcodes that only make data, by Python's own methods; those of the copy registry and of old classes are left out
_WORK: dict[int, Callable[[Any], None]] = {
    **{getattr(pickle, name)[0]: _PYTHONS.dispatch[getattr(pickle, name)[0]] for name in _UNCHANGED},
    **{getattr(pickle, name[5:].upper())[0]: own for name, own in vars(_Reader).items() if name.startswith("load_")},
}
