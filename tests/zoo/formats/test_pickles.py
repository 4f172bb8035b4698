"""The reader makes plain data of a pickle; names stay names and calls stay descriptions."""

from __future__ import annotations

import collections
import io
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.formats.pickles import Call, Name, unpickle


def read(content: bytes) -> Any:
    return unpickle(io.BytesIO(content), persistent=lambda pid: ("outside", pid))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_as_it_was(protocol: int) -> None:
    data = {"a": [1, -2, 3.5, None, True, "text ü", (1, (2,)), {}], "b": {7: "seven"}, "c": 2**40, "d": [[], ()]}
    assert read(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_ordered_dictionary_is_one_and_an_object_is_described(protocol: int) -> None:
    ordered, space = collections.OrderedDict(a=1, b=2), SimpleNamespace(lr=0.1)
    found = read(pickle.dumps([ordered, space, collections.Counter], protocol))
    assert found[0] == {"a": 1, "b": 2}
    assert isinstance(found[1], Call) and found[1].path == "types.SimpleNamespace" and found[1].state == {"lr": 0.1}
    assert isinstance(found[2], Name) and found[2].path == "collections.Counter"


def test_items_under_keys_that_are_neither_text_nor_numbers_are_left_out() -> None:
    assert read(pickle.dumps({(1, 2): "a", "b": "c"})) == {"b": "c"}


def test_a_name_that_is_not_among_those_expected_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the global os\.system, which is of no use"):
        unpickle(io.BytesIO(b"cos\nsystem\n."), names={"os.path"})


def test_what_lies_outside_is_asked_for_by_its_id() -> None:
    assert read(b"\x80\x02K\x07Q.") == ("outside", 7)


def test_the_reader_stops_where_the_pickle_does_and_at_its_limit() -> None:
    file = io.BytesIO(pickle.dumps([1], 2) + b"rest")
    assert unpickle(file) == [1] and file.read() == b"rest"
    with pytest.raises(ValueError, match="more than the 1,000 bytes"):
        unpickle(io.BytesIO(pickle.dumps("a" * 1001)), most_bytes=1000)
    with pytest.raises(ValueError, match="more small objects"):
        unpickle(io.BytesIO(pickle.dumps([[] for _ in range(50)])), most_opcodes=100)


def test_nothing_that_calls_imports_or_sets_is_left_of_pythons_own_opcodes() -> None:
    from zoo.formats.pickles import _WORK

    theirs = {code for code, method in _WORK.items() if pickle._Unpickler.dispatch.get(code) is method}
    acting = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "SETITEM", "SETITEMS")
    acting += ("APPEND", "APPENDS", "ADDITEMS", "DICT", "EMPTY_SET", "FROZENSET", "PERSID", "NEXT_BUFFER", "LONG4")
    assert theirs.isdisjoint(getattr(pickle, name)[0] for name in acting)
    assert len(theirs) > 40
