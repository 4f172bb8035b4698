"""How a run is watched while it trains, and asked to stop: it tells where it stands after every step. Imports no torch.

A run that a signal asks to stop finishes its step and saves; SIGUSR1 has it save and go on.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zoo.messages import log

Record = dict[str, Any]  #: A line of metrics.jsonl: `step`, `epoch`, and figures by their names


@dataclass(frozen=True)
class Standing:
    step: int  #: Optimizer steps done, of `total_steps`
    total_steps: int
    epoch: int  #: The epoch of that step, from 1, of `epochs`
    epochs: int
    record: Record  #: The last line of the log; empty before the first one


Watch = Callable[[Standing], None]  #: Called after each step, which then waits for it


def unwatched(standing: Standing) -> None:
    """A `Watch` for whoever does not look."""


def heartbeat(seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> Watch:
    """A `Watch` that logs where a run stands, once in so many seconds: for a file in the place of a terminal."""
    began = last = clock()
    first_step: int | None = None

    def watch(now: Standing) -> None:
        nonlocal last, first_step
        first_step = now.step - 1 if first_step is None else first_step
        if clock() - last < seconds:
            return
        last = clock()
        hours = (last - began) / (now.step - first_step) * (now.total_steps - now.step) / 3600
        told = f"epoch {now.epoch}/{now.epochs}  step {now.step:,} of {now.total_steps:,}  {hours:.1f} h left"
        log.info("  ".join([told, *facts(now.record)]))

    return watch


def facts(record: Record) -> list[str]:
    """The figures of a log line as a person reads them."""
    shown = [f"{record['images_per_second']:.0f} images/s", f"loss {record['loss']:.3f}"] if "loss" in record else []
    shown += [f"t {record['t']:.3f}"] if "t" in record else []
    shown += [f"target cosine {record['mean_target_cosine']:.3f}"] if "mean_target_cosine" in record else []
    shown += [f"{record['skipped']} damaged images skipped"] if record.get("skipped") else []
    return shown


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved. `exit_code` is the shell's, 143 for SIGTERM."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.exit_code = 128 + number


CHECKPOINT = 1  #: The request to save and go on; one to stop by signal n is n + 1: the larger of two requests holds

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
