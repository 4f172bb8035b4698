"""The cells of a grid: each is trained, exported and evaluated; several at once, and each for a time."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.benchmarks.runner import Benchmarks, load_model, measure, open_benchmarks
from zoo.evaluate.report.page import save_all
from zoo.export.artifacts import export_onnx
from zoo.files import write_text
from zoo.messages import log
from zoo.train import checkpoint
from zoo.train.config import TrainConfig
from zoo.train.start import train_in
from zoo.train.watch import CHECKPOINT, Interrupted, Standing, Watch, stop_signals, unwatched

FOLDS = "stratified"  #: Folds of a benchmark that nobody has published


@dataclass(frozen=True)
class Job:
    """One column of the tables with one seed: its run folder and its options."""

    head: str
    seed: int
    folder: Path
    config: TrainConfig

    def done(self, step: str) -> bool:
        """Whether `step` (trained, exported, evaluated) is finished."""
        return (self.folder / f".{step}").exists()

    def finish(self, step: str) -> None:
        """Marks `step` as finished; called after all its files are written."""
        write_text(self.folder / f".{step}", "")

    def __str__(self) -> str:
        return f"{self.head} seed {self.seed}"


@dataclass(frozen=True)
class Pace:
    """How many cells at once and for how long, which decides no figure; times in minutes."""

    jobs: int = 1  #: Cells at once, each in a process of its own; several may share a GPU
    minutes: float = math.inf  #: Then the trainings are saved and the call ends; the same call goes on
    cell_minutes: float = math.inf  #: Then a training is saved and the next one begins


def run_all(jobs: Sequence[Job], data: str, opened: Benchmarks, pace: Pace, watch: Watch) -> Iterator[None]:
    """Finishes `jobs` on the benchmarks that were `opened` at `data`, and yields after each, done or out of time.

    Interrupted, after every training is saved, where a signal asks to stop.
    """
    until = time.time() + 60 * pace.minutes
    if pace.jobs > 1:
        yield from run_apart(jobs, data, pace, until)
        return
    for job in jobs:
        run_job(job, opened, pace, until, watch)
        yield


def run_apart(jobs: Sequence[Job], data: str, pace: Pace, until: float) -> Iterator[None]:
    """`run_all` in processes, each of which takes one job after another."""
    context, stopping = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    with stop_signals() as stop, ProcessPoolExecutor(pace.jobs, context, signal.signal, stopping) as pool:
        waiting: set[Future[int]] = {pool.submit(run_here, job, data, pace, until) for job in jobs}
        try:
            while waiting:
                done, waiting = wait(waiting, 0.2, FIRST_COMPLETED)
                for future in done:
                    stop.asked = max(stop.asked, future.result())
                    yield
                if stop.asked > CHECKPOINT:
                    for process in multiprocessing.active_children():
                        process.terminate()
                    raise Interrupted(stop.asked - 1, 0)
        except BrokenProcessPool:
            found = f"found one that was killed; {pace.jobs} at once may need too much memory"
            raise InputError(f"expected each cell's process to end, {found}") from None
        finally:
            pool.shutdown(cancel_futures=True)


def run_here(job: Job, data: str, pace: Pace, until: float) -> int:
    """`run_job` in a process of several; what `Stop.asked` is where a signal stopped it, else 0."""
    try:
        run_job(job, open_benchmarks(data, options=Options(folds=FOLDS)), pace, until)
    except Interrupted as stop:
        return stop.exit_code - 127
    return 0


def run_job(job: Job, opened: Benchmarks, pace: Pace, until: float, watch: Watch = unwatched) -> None:
    """Trains, exports and evaluates a cell as the commands do; what was finished before is kept.

    It begins nothing after the time `until`, and saves a training that goes on longer than it may.
    """
    if not job.done("trained") and time.time() < until:
        resume = bool(checkpoint.steps(job.folder / "checkpoint"))
        log.info("%s: %s", job, "resuming the training" if resume else "training")
        deadline = min(until, time.time() + 60 * pace.cell_minutes)
        try:
            train_in(job.folder, job.config, resume=resume, watch=stopping_at(deadline, watch))
        except Interrupted:
            if time.time() < deadline:
                raise
            log.info("%s: saved, as its time is over; the same call goes on", job)
            return
        job.finish("trained")
    if job.done("trained") and not job.done("exported") and time.time() < until:
        log.info("%s: exporting", job)
        export_onnx(job.folder, force=True)
        job.finish("exported")
    if job.done("exported") and time.time() < until:
        log.info("%s: evaluating", job)
        # no cache: the embeddings of IJB-C would take a gigabyte per cell
        options = Options(cache=False, folds=FOLDS, device=job.config.device, threads=job.config.threads)
        report = measure(load_model(job.folder, options), opened)
        if report.not_measured:
            raise InputError(report.not_measured[0])
        save_all(job.folder, [report])
        job.finish("evaluated")


def stopping_at(deadline: float, watch: Watch) -> Watch:
    """`watch`, which also asks a training to save and stop, as a signal does, once it is later than `deadline`."""

    def look(standing: Standing) -> None:
        watch(standing)
        if time.time() > deadline:
            signal.raise_signal(signal.SIGTERM)

    return watch if deadline == math.inf else look
