"""How library code tells what it does: a logger that the command line shows, and the callbacks of a progress bar."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

log = logging.getLogger("zoo")
"""Warnings and notes of library code; `zoo` shows them on stderr, a program may do with them what it likes."""

Progress = Callable[[int], None]
"""Told how many items were done since it was told last."""

Bar = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Opens a progress bar with a caption and the number of items, where it is known."""


class Lines(logging.Handler):
    """Messages as lines on whatever is stderr at the moment: a progress bar stands in for it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"zoo: {record.getMessage()}", file=sys.stderr)


def no_progress(count: int) -> None:
    """A `Progress` for whoever does not watch."""


def no_bar(caption: str, total: int | None) -> AbstractContextManager[Progress]:
    """A `Bar` for whoever does not watch."""
    return contextlib.nullcontext(no_progress)
