"""How a run is watched while it trains: it tells where it stands after every step. Imports no torch."""

import time
from collections.abc import Callable
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
