"""The tensors of anybody's checkpoint, by name: safetensors, and what torch.save wrote, without running any of it."""

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch

from zoo.errors import InputError, explained
from zoo.formats.pickles import Call, Name, unpickle

DTYPES = {"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16}
DTYPES |= {"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8}
DTYPES |= {"Byte": torch.uint8, "Bool": torch.bool}
"""The element type of torch.FloatStorage and its like."""
WRAPPERS = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net", "network")
"""Where a training checkpoint keeps the weights among the rest, in the order in which they are looked for."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  #: The number with which torch.save's files began before they became zip archives
MOST_BYTES = 4 * 2**20  #: Of a checkpoint's pickle: names and shapes take 1 MB of a large one with its optimizer
MOST_SIDES = 8
MOST_NUMBERS = 2**36  #: More dimensions and numbers than any tensor of a face model has


@dataclass
class Blocks:
    """The storages of a checkpoint file, read when a tensor asks for one."""

    path: Path
    content: Callable[["Block"], bytes]  #: The bytes of a storage, as many as there are
    announced: "dict[str, Block]" = field(default_factory=dict)  #: Every storage that the pickle speaks of, by its key

    def announce(self, pid: Any) -> "Block":
        """The storage that a persistent id describes; ValueError where it describes none."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
            raise ValueError("a reference to something that is no storage")
        kind, key, count = pid[1].path.rpartition(".")[2].removesuffix("Storage"), str(pid[2]), pid[4]
        counted = type(count) is int and 0 <= count < MOST_NUMBERS
        if kind not in DTYPES or not counted or pid[5:] not in ((), (None,)):
            raise ValueError(f"a storage of the kind {kind[:40]}")
        return self.announced.setdefault(key, Block(self, key, DTYPES[kind], count))

    def tree(self, file: IO[bytes]) -> Any:
        """The data of the pickle that begins where `file` stands; InputError for what no checkpoint has."""
        told = f"expected a checkpoint in {self.path}, found a pickle that is damaged or is no checkpoint"
        advice = "nothing in it was run: get the file from a source you trust"
        with explained(told, Exception, advice=advice):  # whatever a damaged pickle makes Python's own reader raise
            return unpickle(file, persistent=self.announce, most_bytes=MOST_BYTES)

    def damaged(self, what: str) -> InputError:
        return InputError(f"expected a whole checkpoint in {self.path}, found {what}; fetch the file again")


@dataclass(frozen=True)
class Block:
    """A storage as the pickle announces it."""

    source: Blocks
    key: str
    dtype: torch.dtype
    count: int

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def read(self) -> torch.Tensor:
        """Its (count,) numbers; InputError unless the file holds exactly so many."""
        content = self.source.content(self) if self.count else b""
        if len(content) != self.bytes:
            raise self.source.damaged(f"{len(content):,} bytes where {self.bytes:,} are announced")
        return torch.frombuffer(bytearray(content), dtype=self.dtype) if content else torch.empty(0, dtype=self.dtype)


@dataclass(frozen=True)
class Described:
    """A tensor as the pickle describes it, none of it trusted yet."""

    block: Block
    offset: Any
    shape: Any
    strides: Any

    def read(self) -> torch.Tensor:
        """The tensor itself, contiguous; InputError where its block is not there or does not hold it."""
        shape, strides = self.shape, self.strides
        fits = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MOST_SIDES
        fits = fits and all(type(n) is int and 0 <= n < MOST_NUMBERS for n in (self.offset, *shape, *strides))
        if fits and math.prod(shape) > 0:
            last = self.offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
            fits = last < self.block.count and math.prod(shape) <= self.block.count
        if not fits:
            raise self.block.source.damaged("a tensor that reaches beyond its own numbers")
        return self.block.read().as_strided(shape, strides, self.offset).contiguous()


Tensors = Mapping[str, torch.Tensor | Described]
"""Tensors by name; those from a pickle are read one by one, so that what is not needed costs nothing."""


def read_tensors(path: str | Path) -> Tensors:
    """The tensors of a checkpoint: a state dict, or the one inside a training checkpoint.

    Takes safetensors, and torch.save's zip and older files, of any suffix. No code of a pickle is run and nothing that
    it names is imported. InputError for everything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a checkpoint at {path}, found no such file; check the path")
    with open(path, "rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":
        return state_dict(_zip(path), path)
    if head[:1] == b"\x80":
        return state_dict(_legacy(path), path)
    if head[8:9] != b"{":
        found = "found another kind of file"
        raise InputError(f"expected a checkpoint at {path} (safetensors, or what torch.save wrote), {found}")
    wrong = safetensors.SafetensorError, OSError, ValueError
    with explained(f"cannot read the tensors in {path}", *wrong, advice="fetch the file again"):
        tensors: Tensors = safetensors.torch.load_file(path)
    return tensors


def _zip(path: Path) -> Any:
    """What the pickle of a zip archive of torch.save holds, each storage of which is a file beside it."""
    folder = ""

    wrong, again = f"expected a whole checkpoint in {path}, found ", "fetch the file again"

    def content(block: Block) -> bytes:
        # a damaged archive makes Python's own reader raise errors of many kinds
        with explained(f"{wrong}no readable numbers", Exception, advice=again), zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{folder}data/{block.key}")
            if entry.compress_type != zipfile.ZIP_STORED:  # as torch writes them; what is packed could be endless
                raise blocks.damaged("packed numbers")
            return archive.read(entry) if entry.file_size == block.bytes else b""

    blocks = Blocks(path, content)
    with explained(f"{wrong}a damaged archive", Exception, advice=again), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or any(name.rpartition("/")[2] == "constants.pkl" for name in names):
            what = "a TorchScript program" if pickles else "an archive of other files"
            raise InputError(f"expected the weights of a model in {path}, found {what}; save its state_dict()")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in names and archive.open(order).read(8) != b"little":
            raise blocks.damaged("big-endian numbers")
        with archive.open(pickles[0]) as pickled:
            return blocks.tree(pickled)


def _legacy(path: Path) -> Any:
    """What a file older than torch 1.6 holds: pickles, and behind them each storage's count and numbers."""
    places: dict[str, int] = {}

    def content(block: Block) -> bytes:
        with open(path, "rb") as file:
            file.seek(places.get(block.key, 0))
            return file.read(block.bytes)

    blocks = Blocks(path, content)
    with open(path, "rb") as file:
        if blocks.tree(file) != LEGACY_MAGIC:
            raise InputError(f"expected a checkpoint that torch.save wrote at {path}, found another pickle, not run")
        _protocol, _system, tree, keys = (blocks.tree(file) for _ in range(4))
        for key in keys if isinstance(keys, list) else ():
            block = blocks.announced.get(str(key))
            if block is None or int.from_bytes(file.read(8), "little") != block.count:
                raise blocks.damaged("another count of numbers than announced")
            places[block.key] = file.tell()
            file.seek(block.bytes, 1)
    return tree


def state_dict(tree: Any, path: Path) -> Tensors:
    """The tensors in what a pickle held: those of the dictionary itself, else of the one that it wraps."""
    for wrapper in (None, *WRAPPERS):
        found = tree if wrapper is None else tree.get(wrapper) if isinstance(tree, dict) else None
        if not isinstance(found, dict):
            continue
        items = {str(name): described(value) for name, value in found.items()}
        if any(isinstance(value, Described) for value in items.values()):
            foreign = next((n for n, value in items.items() if isinstance(value, Call)), None)
            if foreign is not None:
                what = f"made by {items[foreign].path[:80]}, such as a quantised model has; take the float32 checkpoint"
                raise InputError(f"expected tensors of numbers in {path}, found {foreign[:80]} {what}")
            return {name: value for name, value in items.items() if isinstance(value, Described)}
    whole = isinstance(tree, Call) or (isinstance(tree, dict) and any(isinstance(v, Call) for v in tree.values()))
    told = f"found {'a whole pickled object' if whole else 'none'}; save the model's state_dict()"
    raise InputError(f"expected a dictionary of tensors in {path}, {told}")


def described(value: Any) -> Any:
    """A tensor or parameter as the pickle describes it; everything else as it is."""
    while isinstance(value, Call) and value.path.startswith("torch._utils._rebuild_parameter") and value.args:
        value = value.args[0]
    if isinstance(value, Call) and value.path in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        args = value.args
        if len(args) >= 4 and isinstance(args[0], Block):
            return Described(args[0], *args[1:4])
    return value
