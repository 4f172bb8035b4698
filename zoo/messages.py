"""How library code tells what it does: a logger that the command line shows, and the callback of a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("zoo")
"""Warnings and notes of library code; `zoo` shows them on stderr, a program may do with them what it likes."""

Progress = Callable[[int], None]
"""Told how many items were done since it was told last."""


def no_progress(count: int) -> None:
    """A `Progress` for whoever does not watch."""
