"""Sentences for wrong input, and the names that come close."""

from __future__ import annotations

from zoo.errors import Exit, InputError, closest, unknown_name


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
