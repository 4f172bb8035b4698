"""Checkpoints that nobody should open with pickle.load: payloads, traps for a reader's memory and stack, lies."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator

import torch

COMMANDS = (
    ("os", "system", ("touch CANARY",)),
    ("posix", "system", ("touch CANARY",)),
    ("subprocess", "Popen", (["touch", "CANARY"],)),
    ("subprocess", "check_output", (["touch", "CANARY"],)),
    ("builtins", "eval", ("open('CANARY', 'w')",)),
    ("builtins", "exec", ("open('CANARY', 'w')",)),
    ("__builtin__", "eval", ("open('CANARY', 'w')",)),
    ("builtins", "open", ("CANARY", "w")),
    ("builtins", "__import__", ("canary_module",)),
    ("builtins", "getattr", ("os", "system")),
    ("importlib", "import_module", ("canary_module",)),
    ("runpy", "run_module", ("canary_module",)),
    ("runpy", "_run_code", ("open('CANARY', 'w')", {})),
    ("timeit", "timeit", ("open('CANARY', 'w')",)),
    ("pty", "spawn", ("touch CANARY",)),
    ("code", "interact", ()),
    ("webbrowser", "open", ("file://CANARY",)),
    ("shutil", "copyfile", ("/etc/hostname", "CANARY")),
    ("pickle", "loads", (b"cos\nsystem\n(S'touch CANARY'\ntR.",)),
    ("torch", "load", ("CANARY",)),
    ("torch.hub", "load", ("CANARY", "model")),
    ("torch.serialization", "load", ("CANARY",)),
    ("numpy", "load", ("CANARY", "r", True)),
    ("torch.storage", "_load_from_bytes", (b"cos\nsystem\n(S'touch CANARY'\ntR.",)),
    ("torch.jit", "load", ("CANARY",)),
    ("operator", "methodcaller", ("system", "touch CANARY")),
    ("functools", "partial", ("touch CANARY",)),
    ("canary_module", "anything", ()),
)
"""(module, name, arguments) of calls that leave a trace where they are made: CANARY stands for a file's path."""


def word(text: str) -> bytes:
    raw = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def plain(value: object) -> bytes:
    """The opcodes that push a value of plain types."""
    return pickle.dumps(value, protocol=2)[2:-1]


def calls(module: str, name: str, arguments: tuple[object, ...]) -> Iterator[tuple[str, bytes]]:
    """The ways in which a pickle asks for one call; each pushes its result."""
    pushed = plain(arguments)
    yield "reduce", f"c{module}\n{name}\n".encode() + pushed + pickle.REDUCE
    yield "stack-global", word(module) + word(name) + pickle.STACK_GLOBAL + pushed + pickle.REDUCE
    yield "newobj", f"c{module}\n{name}\n".encode() + pushed + pickle.NEWOBJ
    items = b"".join(plain(argument) for argument in arguments)
    yield "inst", pickle.MARK + items + f"i{module}\n{name}\n".encode()
    yield "obj", pickle.MARK + f"c{module}\n{name}\n".encode() + items + pickle.OBJ


TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(("
    + word("storage")
    + b"ctorch\nFloatStorage\n"
    + word("0")
    + word("cpu")
    + b"K\x04tQK\x00K\x04\x85K\x01\x85\x89}tR"
)
"""The opcodes of a tensor of four numbers in the block 0."""


def payloads() -> Iterator[tuple[str, bytes]]:
    """(name, pickle) of pickles in which a call stands in the way of the weights."""
    for module, name, arguments in COMMANDS:
        for how, call in calls(module, name, arguments):
            yield f"{module}.{name}-{how}", b"\x80\x02" + call + b"."
    system = next(calls(*COMMANDS[0]))[1]
    yield "nested-in-a-key", b"\x80\x02}" + system + TENSOR + b"s."
    yield "nested-in-the-shape", b"\x80\x02}" + word("a") + TENSOR.replace(b"K\x04\x85", system + b"\x85", 1) + b"s."
    yield "as-the-storage-type", b"\x80\x02}" + word("a") + TENSOR.replace(b"ctorch\nFloatStorage\n", system) + b"s."
    yield "as-the-rebuilder", b"\x80\x02}" + word("a") + TENSOR.replace(b"torch._utils", b"os") + b"s."
    yield "build-on-a-global", b"\x80\x02cos\nsystem\n}" + word("__call__") + word("x") + b"sb."
    yield "build-on-a-reader", b"\x80\x02czoo.formats.pickles\nCall\n}" + word("__init__") + system + b"sb."
    yield "setstate", b"\x80\x02" + next(calls("canary_module", "A", ()))[1] + system + b"b."
    yield (
        "global-with-a-dot",
        b"\x80\x04" + word("os") + word("path.os.system") + b"\x93(" + plain("touch CANARY") + b"tR.",
    )


def traps() -> Iterator[tuple[str, bytes]]:
    """(name, pickle) of pickles that cost a careless reader its memory, its stack or its time."""
    huge = struct.pack("<Q", 2**62)
    for name in ("BINUNICODE8", "BINBYTES8", "BYTEARRAY8"):
        yield f"huge-{name}", b"\x80\x05" + getattr(pickle, name) + huge + b"x."
    for name in ("BINUNICODE", "BINBYTES", "BINSTRING", "LONG4"):
        yield f"huge-{name}", b"\x80\x03" + getattr(pickle, name) + struct.pack("<I", 2**31 - 1) + b"x."
    yield "huge-FRAME", b"\x80\x04" + pickle.FRAME + huge + b"x."
    yield "huge-decimal", b"\x80\x02I" + b"9" * 3_000_000 + b"\n."
    yield "endless-line", b"\x80\x02c" + b"a" * 3_000_000
    yield "huge-memo", b"\x80\x02]" + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1) + b"."
    yield "unwritten-memo", b"\x80\x02h\x07."
    yield "negative-memo", b"\x80\x02]p-1\n."
    yield "deep-lists", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    yield "deep-tuples", b"\x80\x02)" + b"\x85" * 200_000 + b"."
    yield "deep-tuple-as-key", b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."
    yield "deep-tuple-in-a-set", b"\x80\x04\x8f()" + b"\x85" * 200_000 + b"\x90."
    yield (
        "deep-parameters",
        b"\x80\x02" + b"ctorch._utils\n_rebuild_parameter\n" * 9_000 + b"N" + b"\x85R" * 9_000 + b".",
    )
    yield "list-of-itself", b"\x80\x02]q\x00h\x00a."
    yield "dictionary-of-itself", b"\x80\x02}q\x00" + word("state_dict") + b"h\x00s."
    laughs = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 10 + b"e" for level in range(1, 60)
    )
    yield "billion-laughs", laughs + b"."
    yield "too-long", b"\x80\x02" + b"]" * 500_000 + b"."
    yield "no-stop", b"\x80\x02]"
    yield "empty", b"\x80\x02."
    yield "underflow", b"\x80\x02R."
    yield "mark-alone", b"\x80\x02(."
    yield "append-to-text", b"\x80\x02" + word("a") + b"Na."
    yield "item-of-a-list", b"\x80\x02]NNs."
    yield "odd-items", b"\x80\x02}(NNNu."
    yield "extension", b"\x80\x02\x82\x01."
    yield "persid", b"\x80\x02Pname\n."
    yield "future", b"\x80\x63]."
    yield "reduce-of-text", b"\x80\x02" + word("os.system") + b")R."
    yield "storage-of-nothing", b"\x80\x02}" + word("a") + b"NQs."


def lies() -> Iterator[tuple[str, bytes]]:
    """(name, pickle) whose tensor is not in its block of four numbers."""
    whole = b"\x80\x02}" + word("a") + TENSOR + b"s."
    changes = {
        "offset": (b"tQK\x00", b"tQK\x01"),
        "negative-offset": (b"tQK\x00", b"tQJ\xff\xff\xff\xff"),
        "shape": (b"K\x04\x85", b"K\x05\x85"),
        "negative-shape": (b"K\x04\x85", b"J\xff\xff\xff\xff\x85"),
        "huge-shape": (b"K\x04\x85", b"\x8a\x08" + struct.pack("<q", 2**62) + b"\x85"),
        "text-shape": (b"K\x04\x85", word("4") + b"\x85"),
        "true-shape": (b"K\x04\x85", b"\x88\x85"),
        "many-sides": (b"K\x04\x85", b"(" + b"K\x01" * 60 + b"t"),
        "strides": (b"K\x01\x85\x89", b"K\x02\x85\x89"),
        "expanded": (b"K\x04\x85K\x01\x85", b"J\x00\x00\x00\x7f\x85K\x00\x85"),
        "no-strides": (b"K\x01\x85\x89", b")\x89"),
        "count": (b"K\x04tQ", b"K\x05tQ"),
        "huge-count": (b"K\x04tQ", b"J\xff\xff\xff\x7ftQ"),
        "negative-count": (b"K\x04tQ", b"J\xff\xff\xff\xfftQ"),
        "other-type": (b"FloatStorage", b"DoubleStorage"),
        "unknown-type": (b"FloatStorage", b"QInt8Storage"),
        "other-block": (word("0"), word("1")),
        "climbing-block": (word("0"), word("../data.pkl")),
        "absolute-block": (word("0"), word("/etc/passwd")),
        "no-block": (b"ctorch\nFloatStorage\n", b"N"),
        "quantised": (b"_rebuild_tensor_v2", b"_rebuild_qtensor"),
    }
    for name, (before, after) in changes.items():
        assert before in whole, name
        yield name, whole.replace(before, after, 1)
    for cut in range(3, len(whole) - 1, 7):
        yield f"cut-at-{cut}", whole[:cut]


def archive(content: bytes, packed: bool = False, **more: bytes) -> bytes:
    """A file as torch.save writes it, with `content` as its pickle and a block 0 of four numbers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/byteorder", b"little")
        made.writestr("archive/data/0", torch.arange(4.0).numpy().tobytes())
        for name, value in more.items():
            made.writestr(f"archive/{name.replace('__', '.')}", value)
    return file.getvalue()


def legacy(content: bytes) -> bytes:
    """The same as torch before 1.6 wrote it."""
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    numbers = struct.pack("<q", 4) + torch.arange(4.0).numpy().tobytes()
    return head + content + pickle.dumps(["0"], protocol=2) + numbers


def archives() -> Iterator[tuple[str, bytes]]:
    """(name, file) of archives that are wrong around a good pickle."""
    whole = b"\x80\x02}" + word("a") + TENSOR + b"s."
    yield "big-endian", archive(whole).replace(b"little", b"big\0\0\0")
    yield "torchscript", archive(whole, constants__pkl=b"\x80\x02).")
    yield "packed-numbers", archive(whole, packed=True)
    yield "packed-bomb", archive(b"\x80\x02" + b"]" * 9_000_000, packed=True)
    yield "two-pickles", archive(whole, **{"other/data__pkl": whole})
    yield "no-pickle", archive(whole).replace(b"data.pkl", b"data.txt")
    good = archive(whole)
    for cut in (5, 40, len(good) // 2, len(good) - 3):
        yield f"cut-archive-{cut}", good[:cut]
    yield "flipped", good.replace(torch.arange(4.0).numpy().tobytes(), b"\xff" * 16)
    yield "head-alone", b"PK\x03\x04"
    yield "no-checkpoint", b"GIF89a" + bytes(100)
    yield "nothing", b""
    yield "one-byte", b"\x80"
    yield "safetensors-header", struct.pack("<Q", 2**60) + b'{"a": {}}'
    yield "safetensors-cut", struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}     '


def files() -> dict[str, bytes]:
    """Every hostile file by name: pickles in both kinds of file where they differ."""
    found = dict(archives())
    for name, content in (*payloads(), *traps(), *lies()):
        found[f"{name}.zip"] = archive(content)
        if not name.endswith(("newobj", "inst", "obj")):
            found[f"{name}.legacy"] = legacy(content)
    return found
