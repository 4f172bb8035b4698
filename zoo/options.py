"""Options declared once: fields of a dataclass, for the flags of a command and the keywords of the same Python call."""

from dataclasses import field
from typing import Any


def option(default: Any, told: str, metavar: str | None = None, rare: bool = False) -> Any:
    """A field with the line of the command's --help that describes it; a `rare` one has no line there."""
    return field(default=default, metadata={"help": told, "metavar": metavar, "rare": rare})
