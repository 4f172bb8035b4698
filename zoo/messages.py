"""How library code tells what it does: a logger that the command line shows, and the callbacks of a progress bar."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

log = logging.getLogger("zoo")  #: Notes of library code; `zoo` shows them on stderr, programs handle them

Progress = Callable[[int], None]  #: Called with the number of items done since the last call

Bar = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Opens a progress bar with a caption and the number of items, where it is known."""


class Lines(logging.Handler):
    """Messages as lines on whatever is stderr at the moment: a progress bar stands in for it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"zoo: {record.getMessage()}", file=sys.stderr)


def no_progress(count: int) -> None:
    """A `Progress` that shows nothing."""


def no_bar(caption: str, total: int | None) -> AbstractContextManager[Progress]:
    """A `Bar` that shows nothing."""
    return contextlib.nullcontext(no_progress)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what other libraries print, log and warn of while the block runs; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
