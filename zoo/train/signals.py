"""SIGINT and SIGTERM: a run that is asked to stop finishes its step and saves."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved. `exit_code` is the shell's: 130 or 143."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.exit_code = 128 + number


CHECKPOINT = 1
"""A request beside those of signals, lower than any of their numbers that comes here: save, and go on."""


class Stop:
    """Which signal asked the run to stop; 0 for none."""

    received = 0


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Lets the first SIGINT or SIGTERM finish the step and save; a second SIGINT stops at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.received = number

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread may listen to signals
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
