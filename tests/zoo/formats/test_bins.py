"""Pickled benchmarks of every flavour, and pickles that are traps."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.support.memory import growth
from zoo.errors import InputError
from zoo.formats.bins import read_bin, write_bin

IMAGES = [bytes([0xFF, 0xD8, i, 10, 13, 39, 34, 92, 0]) * (i + 1) for i in range(6)]
SAME = [True, False, True]

IMAGE_TYPES = {
    "bytes": lambda content: content,
    "bytearray": bytearray,
    "read-only array": lambda content: np.frombuffer(content, np.uint8),
    "array": lambda content: np.frombuffer(content, np.uint8).copy(),
    "python 2 string read as latin-1": lambda content: content.decode("latin-1"),
}
TRUTH_TYPES = {
    "bools": list,
    "tuple": tuple,
    "numpy bools": lambda same: [np.bool_(x) for x in same],
    "bool array": lambda same: np.array(same),
    "uint8 array": lambda same: np.array(same, np.uint8),
    "integers": lambda same: [int(x) for x in same],
}


def python_2(protocol: int) -> bytes:
    """What Python 2.7's cPickle wrote for ([str, …], [bool, …]), by hand from its documentation."""
    if protocol == 0:
        items = b"".join(b"S" + repr(image)[1:].encode() + b"\np%d\na" % (i + 3) for i, image in enumerate(IMAGES))
        truths = b"".join(b"I0%d\na" % same for same in SAME)
        return b"((lp1\n" + items + b"(lp2\n" + truths + b"tp0\n."
    short = b"".join(b"U" + bytes([len(image)]) + image + b"q" + bytes([i + 2]) for i, image in enumerate(IMAGES[:3]))
    long = b"".join(b"T" + struct.pack("<I", len(i)) + i + b"r" + struct.pack("<I", 999) for i in IMAGES[3:])
    truths = b"".join(b"\x88" if same else b"\x89" for same in SAME)
    return b"\x80\x02]q\x00(" + short + long + b"e]q\x01(" + truths + b"e\x86q\x09."


def check(path: Path) -> None:
    images, same = read_bin(path)
    assert images == IMAGES and all(type(image) is bytes for image in images)
    assert same.dtype == np.bool_ and same.tolist() == SAME


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("image", IMAGE_TYPES)
def test_every_flavour_of_python_3_and_numpy_is_read(tmp_path, protocol, image):
    for truths in TRUTH_TYPES.values():
        made = ([IMAGE_TYPES[image](content) for content in IMAGES], truths(SAME))
        for content in (made, list(made), (tuple(made[0]), made[1])):
            (tmp_path / "x.bin").write_bytes(pickle.dumps(content, protocol=protocol))
            check(tmp_path / "x.bin")


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_of_python_2_is_read(tmp_path, protocol):
    content = python_2(protocol)
    assert pickle.loads(content, encoding="bytes") == (IMAGES, SAME)
    (tmp_path / "x.bin").write_bytes(content)
    check(tmp_path / "x.bin")


def test_arrays_of_an_older_numpy_are_read(tmp_path):
    content = pickle.dumps(([np.frombuffer(i, np.uint8).copy() for i in IMAGES], SAME), protocol=2)
    assert b"numpy._core.multiarray" in content
    (tmp_path / "x.bin").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    check(tmp_path / "x.bin")


def test_what_is_written_is_what_python_and_zoo_read(tmp_path):
    write_bin(tmp_path / "x.bin", IMAGES, np.array(SAME))
    check(tmp_path / "x.bin")
    with open(tmp_path / "x.bin", "rb") as file:
        assert pickle.load(file, encoding="bytes") == (IMAGES, SAME)  # insightface's own line


def test_pictures_and_truths_that_do_not_match_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="two pictures a pair"):
        write_bin(tmp_path / "x.bin", IMAGES[:5], SAME)
    assert not list(tmp_path.iterdir())


def test_the_real_benchmark_is_read_and_reproduced_byte_for_byte(shared: Path, tmp_path):
    path = shared / "data" / "lfw_rec" / "lfw_dev.bin"
    images, same = read_bin(path)
    assert (len(images), len(same)) == (2236, 1118)
    write_bin(tmp_path / "x.bin", images, same)
    assert (tmp_path / "x.bin").read_bytes() == path.read_bytes()


class Evil:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def traps(mark: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would touch the file `mark`, and what the refusal names."""
    command = f"touch {mark}"
    nested = pickle.dumps(([b"x", [Evil(os.system, command)]], [True]))
    hidden = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93"  # both names come out of the memo
    return {
        "os.system": (pickle.dumps(Evil(os.system, command)), "posix.system"),
        "protocol 0": (pickle.dumps(Evil(os.system, command), protocol=0), "posix.system"),
        "eval": (pickle.dumps(Evil(eval, f"open({str(mark)!r}, 'w')")), "builtins.eval"),
        "getattr": (pickle.dumps(Evil(getattr, "x", "y")), "builtins.getattr"),
        "numpy.load": (b"\x80\x04cnumpy\nload\n\x8c\x01x\x85R.", "numpy.load"),
        "numpy's runner": (
            b"cnumpy.testing._private.utils\nrunstring\n(S'x'\n}tR.",
            "numpy.testing._private.utils.runstring",
        ),
        "nested": (nested, "posix.system"),
        "memo": (hidden + b"\x8c\x04echo\x85R.", "os.system"),
        "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x10core.os.system.x\x93.", "numpy.core.os.system.x"),
        "instance": (b"(S'echo'\nios\nsystem\n.", "INST"),
        "class": (b"(cos\nsystem\nS'echo'\no.", "os.system"),
        "persistent": (b"Pelsewhere\n.", "PERSID"),
        "extension": (b"\x82\x01.", "EXT1"),
        "dictionary": (pickle.dumps({"a": 1}), "no pair"),
        "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "array of objects": (pickle.dumps(([np.array([None])], [])), "array"),
        "array of floats": (pickle.dumps(([np.zeros(3)] * 2, [True])), "array"),
        "picture as pixels": (pickle.dumps(([np.zeros((2, 2), np.uint8)] * 2, [True])), "array"),
        "call of data": (b"I1\n(I2\ntR.", "call"),
    }


@pytest.mark.parametrize("trap", traps(Path("x")))
def test_a_trap_is_refused_by_name_before_it_runs(tmp_path, trap):
    mark = tmp_path / "it-ran"
    content, name = traps(mark)[trap]
    (tmp_path / "trap.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"trap\.bin") as refusal:
        read_bin(tmp_path / "trap.bin")
    assert name in str(refusal.value)
    assert not mark.exists()


def test_the_trap_of_this_test_would_run(tmp_path):
    mark = tmp_path / "it-ran"
    pickle.loads(traps(mark)["os.system"][0])
    assert mark.exists()


TWO_ARRAYS = pickle.dumps(([np.zeros(3, np.uint8)] * 2, [True]), protocol=2)
BOMBS = {
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62),
    "long bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62),
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x",
    "bytes of 4 GB": b"B\xff\xff\xff\xff",
    "long frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "memo index of 2³² ": b"]r\xff\xff\xff\xff.",
    "memo index of 10¹⁹": b"]p9999999999999999999\n.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "three million lists": b"]" * 3_000_000,
    "three million memo entries": b"N" + b"\x94" * 3_000_000,
    "three million marks": b"(" * 3_000_000,
    "three million references": b"]q\x00(" + b"h\x00" * 3_000_000 + b"e.",
    "lists in lists": b"]" + b"\x85" * 3_000_000 + b".",
    "an array of 2⁶² elements": pickle.dumps(([np.zeros(3, np.uint8)] * 2, [True]), protocol=2).replace(
        b"K\x03\x85", b"\x8a\x08" + b"\0" * 7 + b"@\x85"
    ),
    "a list in itself": b"]q\x00h\x00ah\x00\x86.",
    "one call named often": b"c_codecs\nencode\n(V"
    + b"x" * 100_000
    + b"\nVlatin1\ntRq\x00("
    + b"h\x00" * 20_000
    + b"l]\x86.",
    "one text encoded often": b"c_codecs\nencode\nq\x00V"
    + b"x" * 100_000
    + b"\nVlatin1\n\x86q\x01("
    + b"h\x00h\x01R" * 20_000
    + b"l](\x88"
    + b"\x88" * 9_999
    + b"e\x86.",
    "bytes of bytes of bytes": b"c__builtin__\nbytes\nq\x00("
    + b"h\x00" * 100_000
    + b"C\x01x"
    + b"\x85R" * 100_000
    + b"C\x01xl](\x88e\x86.",
}


MISFITS = {
    "a call without arguments, as fuzzed": b"((lp0\nc_codecs\nencode\np1\n(Vfirs\x91t\nVlatin1\np3\ntp4\nRp5\n"
    b"ag1\n(tp4\nRp5\nag1\n(Vsececond\np6\ng3\ntp7\nRp8\na(lp9\nI00\natp10\n.",
    "a call of one argument": b"((c_codecs\nencode\n(Vx\ntRNl(I01\nlt.",
    "a shape of texts": TWO_ARRAYS.replace(b"K\x03\x85", b"U\x013\x85"),
    "a shape of nothing": TWO_ARRAYS.replace(b"K\x03\x85", b"N\x85"),
    "a shape that is a number": TWO_ARRAYS.replace(b"K\x03\x85", b"K\x03"),
    "a type of numbers": TWO_ARRAYS.replace(b"X\x02\x00\x00\x00u1", b"K\x01"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, misfit: str) -> None:
    (tmp_path / "x.bin").write_bytes(MISFITS[misfit])
    with pytest.raises(InputError, match=r"x\.bin"):
        read_bin(tmp_path / "x.bin")


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_the_memory_of_the_file(tmp_path, bomb):
    path = tmp_path / "bomb.bin"
    path.write_bytes(BOMBS[bomb])
    taken = growth(
        "from zoo.errors import InputError; from zoo.formats.bins import read_bin",
        f"try:\n    read_bin({str(path)!r})\n    raise SystemExit('it was read')\nexcept InputError:\n    pass",
    )
    assert taken < len(BOMBS[bomb]) + (64 << 20)


def test_every_truncation_is_refused_by_name(tmp_path):
    for whole in (pickle.dumps((IMAGES[:2], SAME[:1])), python_2(2)):
        for length in range(len(whole)):
            (tmp_path / "x.bin").write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"x\.bin"):
                read_bin(tmp_path / "x.bin")


@pytest.mark.parametrize(
    "content", [(IMAGES, SAME[:2]), ([], []), IMAGES, (IMAGES, [1, 2, 0]), (IMAGES, None), 3, (1, 2)]
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"x\.bin"):
        read_bin(tmp_path / "x.bin")


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "absent.bin"):
        with pytest.raises(InputError, match="cannot read it"):
            read_bin(path)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real pickle with some bytes changed, inserted or left out: opcodes in every wrong order."""
    protocol = draw(st.integers(0, 5))
    image = draw(st.sampled_from(list(IMAGE_TYPES.values())))
    content = bytearray(pickle.dumps(([image(i) for i in IMAGES[:2]], [True]), protocol=protocol))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


@hypothesis.given(content=damaged() | st.binary(min_size=1, max_size=60))
@hypothesis.settings(
    deadline=None, max_examples=300, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_a_benchmark_or_one_input_error(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    try:
        images, same = read_bin(tmp_path / "x.bin")
    except InputError:
        return
    assert len(images) == 2 * len(same) and all(isinstance(image, bytes) for image in images)


@pytest.mark.parametrize("kind", ["i8", "i4", "u1", "?"])
def test_arrays_with_a_second_axis_of_one_and_truths_of_any_whole_kind_are_read(kind: str, tmp_path: Path) -> None:
    pictures = [np.frombuffer(content, np.uint8).reshape(-1, 1) for content in (b"first", b"second")]
    with open(tmp_path / "a.bin", "wb") as file:
        pickle.dump((pictures, np.array([1], kind)), file, protocol=2)
    images, same = read_bin(tmp_path / "a.bin")
    assert images == [b"first", b"second"] and same.tolist() == [True]
    with open(tmp_path / "b.bin", "wb") as file:
        pickle.dump((pictures, np.array([1], "f4")), file)
    with pytest.raises(InputError, match="an array that is not of"):
        read_bin(tmp_path / "b.bin")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\3\4rest", "a zip archive"),
        (b"PAR1" + bytes(9), "a parquet file"),
        (bytes(257) + b"ustar", "a tar archive"),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(InputError, match=f"found {kind}"):
        read_bin(tmp_path / "data")
