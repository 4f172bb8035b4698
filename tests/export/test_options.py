"""The options of an export: which contradict each other, and that every flag of the command is one of them."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.commands.options import Parser, given
from zoo.errors import InputError
from zoo.export.options import Options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "lfw.bin"}, "--data is what smaller files are compared on"),
        ({"max_accuracy_drop": 0.1}, "--max-accuracy-drop compares a smaller file"),
        ({"fp16": True, "max_accuracy_drop": 1.0}, "expected a fraction such as 0.005"),
    ],
)
def test_options_that_contradict_others_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Options(**options)


def test_the_variants_and_the_pairs_have_names() -> None:
    assert Options(fp16=True, int8=True).variants == ["float16", "int8"] and Options().variants == []
    assert Options(fp16=True, data="b/lfw.bin").pairs == "lfw.bin"
    assert Options().pairs == "600 pairs of synthetic faces"


def test_the_flags_give_what_was_given_and_nothing_else() -> None:
    parser = Parser()
    parser.add_options(Options)
    assert given(parser.parse_args([]), Options) == {}
    assert given(parser.parse_args(["--opset", "20", "--fp16"]), Options) == {"opset": 20, "fp16": True}
    told = " ".join(parser.format_help().split())
    assert "half the size" in told and "(default: 18)" in told
