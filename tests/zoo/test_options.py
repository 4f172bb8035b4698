"""A field that a command's flag is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields

from zoo.options import option


@dataclass(frozen=True)
class Settings:
    epochs: int = option(3, "passes over the data", "N")
    quiet: bool = option(False, "say nothing")


def test_an_option_is_a_field_with_its_default_and_the_line_of_its_help() -> None:
    assert Settings() == Settings(3, False) and Settings(epochs=5).epochs == 5
    assert [field.metadata["help"] for field in fields(Settings)] == ["passes over the data", "say nothing"]
    assert [field.metadata["metavar"] for field in fields(Settings)] == ["N", None]
