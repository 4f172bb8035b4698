"""Sentences for wrong input, and the names that come close."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from zoo.errors import Exit, InputError, closest, explained, needs, unknown_name


def test_wrong_input_is_a_value_error_that_a_program_can_catch() -> None:
    assert issubclass(InputError, ValueError)


def test_an_unknown_name_lists_the_closest_first_and_then_all() -> None:
    error = unknown_name("head", "cosfase", ["softmax", "arcface", "cosface"])
    assert str(error) == "no head is called 'cosfase'; did you mean cosface? Known: cosface, arcface, softmax."
    assert str(unknown_name("head", "zzz", ["softmax"])) == "no head is called 'zzz'. Known: softmax."


def test_close_names_are_few_and_in_order() -> None:
    names = [f"model-{number}" for number in range(10)]
    assert closest("model-3", names)[0] == "model-3" and len(closest("model-3", names)) == 3
    assert closest("zzz", names) == []


def test_exit_codes_are_those_of_the_documentation() -> None:
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 70, 130]


def test_an_error_of_other_code_becomes_one_sentence_with_its_reason_and_others_stay(tmp_path: Path) -> None:
    found = r"^expected a file, found none \(two lines\); look again$"
    wrong = KeyError, RuntimeError
    with pytest.raises(InputError, match=found), explained("expected a file, found none", *wrong, advice="look again"):
        raise RuntimeError("two\n  lines")
    with pytest.raises(InputError, match=r"^no file \(No such file or directory\)$"), explained("no file", OSError):
        (tmp_path / "absent").read_text()
    with pytest.raises(InputError, match=r"^as it was$"), explained("expected another", ValueError):
        raise InputError("as it was")
    with pytest.raises(ZeroDivisionError), explained("expected a file, found none", OSError):
        print(1 / 0)


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = r"package pyarrow to open a\.parquet, found none; pip install '.*\[data\]'"
    with pytest.raises(InputError, match=found), needs("pyarrow", "data", "to open a.parquet"):
        importlib.import_module("pyarrow")
