"""Signals: a run that is asked to stop finishes its step and saves; SIGUSR1 has it save and go on."""

import contextlib
import signal
from collections.abc import Iterator


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved. `exit_code` is the shell's, 143 for SIGTERM."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.exit_code = 128 + number


CHECKPOINT = 1
"""The request to save and go on; one to stop by signal n is n + 1, so that the larger of two requests holds."""

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))
"""What Slurm's `--signal=USR1@60` sends before the time is over."""


class Stop:
    asked = 0  #: 0 for nothing
    step = 0  #: The step whose state was saved last

    def at_once(self) -> None:
        """Raises Interrupted where a signal asked the run to stop."""
        if self.asked > CHECKPOINT:
            raise Interrupted(self.asked - 1, self.step)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Lets the first SIGINT, SIGTERM or SIGHUP finish the step and save; a second SIGINT stops at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop.asked > CHECKPOINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = max(stop.asked, CHECKPOINT if number in SAVING else number + 1)

    try:
        before = {number: signal.signal(number, ask) for number in (*STOPPING, *SAVING)}
    except ValueError:  # only the main thread may listen to signals
        before = {}
    try:
        yield stop
    except RuntimeError:
        stop.at_once()  # another process, asked to stop as well, has left a collective operation
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
