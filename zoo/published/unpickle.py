"""A checkpoint's pickle as plain data: nothing that it names is imported, and nothing in it is ever called.

`pickle.Unpickler` with a closed `find_class` would still let a pickle call what is left open and set attributes of it.
Here the opcodes that call, import or look up something are our own: a name becomes a `Name`, a call a `Call`.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from zoo.errors import explained

MOST_BYTES = 4 * 2**20
"""What a checkpoint's pickle may have: names and shapes of a large one take 1 MB, its optimizer's included."""
KEYS = (str, int, float, bool, type(None))
"""What a key may be: text or a number. Hashing a deeply nested tuple would overflow the interpreter's stack."""


@dataclass(frozen=True, eq=False, repr=False)
class Name:
    """Something that the pickle names, such as collections.OrderedDict; it is not looked up."""

    path: str


class Call(dict[Any, Any]):
    """What the pickle would make by a call, and its items; `state` is what it would have been given."""

    __slots__ = ("args", "path", "state")

    def __init__(self, path: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.path = path
        self.args = args
        self.state: Any = None


Persistent = Callable[[Any], Any]  #: Makes of a persistent id what stands for it: for torch, of a storage's description


def unpickle(file: IO[bytes], name: str, persistent: Persistent) -> Any:
    """The data of the pickle that begins where `file` stands, of at most 4 MiB; `name` is for messages.

    InputError for a pickle that is damaged, too long, or uses what no checkpoint needs.
    """
    told = f"expected a checkpoint in {name}, found a pickle that is damaged or is no checkpoint"
    advice = "nothing in it was run: get the file from a source you trust"
    with explained(told, Exception, advice=advice):  # whatever a damaged pickle makes Python's own reader raise
        return _Reader(_Limited(file), persistent).load()


class _Limited:
    """A file that a pickle is read from, up to the limit; a length beyond it is refused before it is allocated."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.left = MOST_BYTES

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError(f"more than the {MOST_BYTES:,} bytes of any checkpoint's pickle")

    def read(self, count: int) -> bytes:
        self.spend(count)
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, 4096))
        self.spend(len(line))
        return line


class _Reader(pickle._Unpickler):
    """Python's own unpickler without every opcode that imports, calls or sets anything."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {}
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: _Limited, persistent: Persistent) -> None:
        super().__init__(file)
        self.persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        """What GLOBAL and STACK_GLOBAL push."""
        return Name(f"{module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:
        """What BINPERSID pushes."""
        return self.persistent(pid)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _called(self.stack[-1], args)

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


def _called(function: Any, args: Any) -> Call | dict[Any, Any]:
    if not isinstance(function, Name) or not isinstance(args, tuple):
        raise ValueError("a call of something that is no function")
    return {} if function.path == "collections.OrderedDict" else Call(function.path, args)


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
    elif not isinstance(target, Call):  # a set or a deque, whose elements no checkpoint's weights lie in
        raise ValueError("an element of something that is no list")


_UNCHANGED = (
    *("PROTO", "FRAME", "MARK", "STOP", "POP", "POP_MARK", "DUP"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "BINPERSID"),
)  #: Opcodes that only make data, by Python's own methods; those of the copy registry and of old classes are left out
_Reader.dispatch.update(
    {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _UNCHANGED}
)
_Reader.dispatch.update(
    {getattr(pickle, name[5:].upper())[0]: own for name, own in vars(_Reader).items() if name.startswith("load_")}
)
