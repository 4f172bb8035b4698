"""The columns of a grid's tables: heads, and variants of a head."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.errors import InputError
from zoo.train.config import OPTIONS
from zoo.train.start import PLAIN


def variant(column: str) -> tuple[str, dict[str, str]]:
    """The head of a column and the options of that column alone: the head's, those of `zoo train`, and `recipe`.

    >>> variant("recurricularface+modulate=all+lr=1e-2")
    ('recurricularface', {'head_options.modulate': 'all', 'lr': '1e-2'})
    """
    head, *parts = re.split(r"\+(?=[a-z])", column)
    options: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if not value or name in ("head", "seed"):
            raise InputError(f"expected --heads as HEAD or HEAD+option=value, found {column}")
        known = name == "recipe" or name.partition(".")[0] in OPTIONS
        options[name if known else f"head_options.{name}"] = value
    return head, options


def cell_name(column: str, seed: int) -> str:
    """The name of a cell's folder, which tells `gather` both."""
    return f"{column}-seed{seed}".translate(PLAIN)


def assignments(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Training options as --set takes them.

    >>> list(assignments({"epochs": 5, "head_options": {"margin": 0.3}}))
    ['epochs=5', 'head_options.margin=0.3']
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from assignments(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={value}"
