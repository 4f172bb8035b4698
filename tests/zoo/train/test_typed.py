"""Values are read by the types that options declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from zoo.errors import InputError
from zoo.train.typed import load_recipe, load_yaml, meant, read, shown, spelled


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("5", int, 5),
        ("1e3", int, 1000),
        ("1_000", int, 1000),
        ("none", int | None, None),
        ("NULL", float | None, None),
        ("", tuple[int, ...] | None, None),
        ("none", str, "none"),
        ("none", Literal["none", "easy"], "none"),
        ("none", Literal["none"] | None, "none"),
        ("auto", int | Literal["auto"] | None, "auto"),
        ("off", bool, False),
        ("5e-1", float, 0.5),
        (3, float, 3.0),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        (["1", 2], tuple[int, ...], (1, 2)),
        ("[]", tuple[str, ...], ()),
        ("{a: 1e1, b: no}", dict[str, float | str], {"a": "1e1", "b": "no"}),
        (Path("faces"), str, "faces"),
        ("3", Any, 3),
        ("1e-2", Any, 0.01),
        ("true", Any, True),
        ("paper", Any, "paper"),
        ("3", int | None, 3),
    ],
)
def test_a_value_becomes_what_its_type_says(value: Any, hint: Any, expected: object) -> None:
    found = read(value, hint, "--x")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        ("1.5", int, "a whole number"),
        ("1e-1", int, "a whole number"),
        ("e", int, "a whole number"),
        ("none", float, "a number"),
        ("2", bool, "true or false"),
        ("foo", int | Literal["auto"] | None, "a whole number or auto or none"),
        ("face", Literal["stock", "fase"], "stock or fase"),
        ("body", tuple[str, ...], "a list such as [a, b]"),
        ("[1", tuple[int, ...], "a list such as [1, 2]"),
        (2024, str, "a text"),
        ("[1", Any, "a value"),
        (None, str, "a text"),
    ],
)
def test_what_is_of_another_type_is_named_with_the_type(value: Any, hint: Any, wanted: str) -> None:
    with pytest.raises(InputError) as refusal:
        read(value, hint, "--x")
    assert str(refusal.value) == f"expected --x to be {wanted}, found {shown(value)}" and spelled(hint) == wanted


def test_a_value_is_shown_as_a_user_writes_it() -> None:
    assert [shown(value) for value in (None, True, "a", 1, (1, 2))] == ["none", "true", "'a'", "1", "[1, 2]"]


def test_only_texts_are_looked_into() -> None:
    for value in (None, 3, 2.5, ["none"], {"a": "~"}):
        assert meant(value, int | None) is value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"lr: 0.1\nhead: [arcface\nepochs: 3\n", r"cannot read it \(.* line 3, column 7"),
        (b"lr: 0.1\n  epochs: 3\n", r"cannot read it \(mapping values are not allowed here .*mine\.yaml\", line 2"),
        (b"- lr\n", "found a list"),
        (b"lr=0.1\n", "found the text 'lr=0.1'"),
        (b"", "found nothing"),
        (b"lr: \xff", "cannot read it"),
    ],
)
def test_a_yaml_error_tells_its_line(tmp_path: Path, text: bytes, found: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(text)
    for reader in (load_recipe, lambda path: load_yaml(Path(path))):
        with pytest.raises(InputError, match=f"mine.yaml, {found}") as refusal:
            reader(str(tmp_path / "mine.yaml"))
        assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="No such file"):
        load_recipe(str(tmp_path / "absent.yaml"))
    with pytest.raises(InputError, match="no recipe is called 'quick'; did you mean quick-cpu"):
        load_recipe("quick")
