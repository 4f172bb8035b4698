"""A grid of trainings: every head with every seed is trained, exported and evaluated; finished steps are kept."""

import itertools
import json
import math
import multiprocessing
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import runs
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.benchmarks.runner import Benchmarks, load_model, measure, open_benchmarks
from zoo.evaluate.report.page import save_all
from zoo.export.artifacts import export_onnx
from zoo.files import new_folder, write_json, write_text
from zoo.heads import build_head
from zoo.messages import log
from zoo.reproduce.page import Page, environment, read_cell
from zoo.reproduce.tables import Cell, stated_by
from zoo.train import checkpoint
from zoo.train import config as training
from zoo.train.build import choose_device
from zoo.train.start import CHECKPOINT, PLAIN, Interrupted, Standing, Watch, stop_signals, train_in, unwatched
from zoo.train.typed import load_recipe, recipes

FOLDS = "stratified"  #: Folds of a benchmark that nobody has published


@dataclass(frozen=True)
class Job:
    """One column of the tables with one seed: its run folder and its options."""

    head: str
    seed: int
    folder: Path
    config: training.TrainConfig

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

    def __post_init__(self) -> None:
        for name, minutes in (("minutes", self.minutes), ("cell-minutes", self.cell_minutes)):
            if not minutes >= 0:
                raise InputError(f"expected --{name} of at least 0, found {minutes}")


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
        known = name == "recipe" or name.partition(".")[0] in training.OPTIONS
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


HEADS = ("arcface", "cosface", "curricularface", "adaface", "recurricularface")
"""The last one is compared with the others; the paper itself has no CosFace and no AdaFace."""

PAPER = "{head}-r18-casia"  #: The packaged recipe of each head under the paper's section 4.2


@dataclass(frozen=True)
class Grid:
    """What to train and to measure: every head with every seed, under equal conditions."""

    data: str  #: The training set, as `zoo train --data` takes it
    benchmarks: str  #: A folder of benchmarks, or one of them
    output: Path = Path("reproduction")  #: The folder of the tables and of a run folder per cell
    heads: tuple[str, ...] = HEADS  #: The columns, as `variant` reads them; the last is compared with the others
    seeds: int = 3  #: Trainings per head, with seeds 0 to `seeds` − 1
    recipe: str | None = None  #: One for all heads, a packaged one's name or a YAML file; None: the paper's for each
    options: Mapping[str, Any] = field(default_factory=dict)  #: Other training options, e.g. {"epochs": 5}.
    stated: str = "paper"  #: Published figures to print below the measured: "paper" (Tables 1 to 3), "none", or a CSV
    difference: float = 0.01  #: A difference, as a fraction, of which the tables say how many seeds would show it

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"expected --seeds to be at least 1, found {self.seeds}")
        if len(set(self.heads)) < len(self.heads):
            raise InputError(f"expected each of --heads once, found {' '.join(self.heads)}")
        for name in self.options:
            if name in training.OPTIONS and (flag := training.OPTIONS[name].grid_flag):
                raise InputError(f"expected {flag} in place of --set {name}=…, which is not one value for all cells")
        for head, own in map(variant, self.heads):
            if not (self.recipe or "recipe" in own or PAPER.format(head=head) in recipes()):
                expected = "expected heads with a recipe of the paper's environment"
                raise InputError(f"{expected}, found {head}; name one for all by --recipe")

    def config(self, column: str, seed: int) -> training.TrainConfig:
        head, own = variant(column)
        recipe = load_recipe(own.pop("recipe", "") or self.recipe or PAPER.format(head=head))
        return training.build({**recipe, "data": self.data, **self.options, **own, "head": head, "seed": seed})

    def jobs(self) -> list[Job]:
        """All heads of a seed before the next seed, so that the first results compare heads already."""
        cells = [(column, seed) for seed in range(self.seeds) for column in self.heads]
        return [Job(*cell, self.output / cell_name(*cell), self.config(*cell)) for cell in cells]

    @property
    def command(self) -> str:
        """The command line of this grid, without defaults."""
        words = ["--data", self.data, "--benchmarks", self.benchmarks, "--seeds", str(self.seeds)]
        words += ["--heads", *self.heads] if self.heads != HEADS else []
        words += ["--recipe", self.recipe] if self.recipe else []
        words += ["--stated", self.stated] if self.stated != "paper" else []
        words += ["--difference", f"{100 * self.difference:g}"] if self.difference != 0.01 else []
        words += [word for assignment in assignments(self.options) for word in ("--set", assignment)]
        return shlex.join(["zoo", "reproduce", *words, "-o", str(self.output)])


def reproduce(grid: Grid, watch: Watch = unwatched, pace: Pace | None = None) -> tuple[Cell, ...]:
    """Trains, exports and evaluates every cell of the grid; returns them, and writes the tables after each.

    Finished steps are kept: the same call again continues an interrupted one, and more seeds add cells. InputError for
    options that do not fit, before anything is trained; Interrupted when a signal stopped a training after saving it.
    """
    if "RANK" in os.environ:
        raise InputError("expected one process, found torchrun, under which only `zoo train` works; start it alone")
    stated_by(grid.stated)
    jobs = grid.jobs()
    opened = open_benchmarks(grid.benchmarks, options=Options(folds=FOLDS))
    if opened.not_whole:
        raise InputError(opened.not_whole[0])
    measured_on = [[protocol.data, protocol.data_sha256] for protocol, _ in opened.opened]
    for job in jobs:
        build_head(job.config.head, **job.config.head_options)  # refused here, not after hours
    choose_device(jobs[0].config)
    described = [open_dataset(data).describe() for data in dict.fromkeys(job.config.data for job in jobs)]
    facts: dict[str, Any] = {"training set": described[0], "benchmarks": measured_on}
    with new_folder(grid.output, keep=lambda folder: any(folder.glob("*/config.yaml"))), runs.lock(grid.output):
        remember(grid.output, jobs[0].config, facts)
        told = environment([job.config for job in jobs], facts["training set"])
        page = Page(grid.output, grid.command, told, grid.stated, grid.difference)
        todo = [job for job in jobs if not job.done("evaluated")]
        cells: list[Cell] = []
        for _ in itertools.chain(run_all(todo, grid.benchmarks, opened, pace or Pace(), watch), [None]):
            cells = [read_cell(job.folder, job.head, job.seed) for job in jobs if job.done("evaluated")]
            if cells:
                page.write(cells, grid.heads[-1], [str(job) for job in jobs if not job.done("evaluated")])
    return tuple(cells)


def remember(output: Path, config: training.TrainConfig, facts: dict[str, Any]) -> None:
    """Writes plan.json; InputError where `output` has cells with other options, data or benchmarks."""
    path = output / "plan.json"
    varied = training.option_names(varied=True)
    now = {"options": {name: value for name, value in training.plain(config).items() if name not in varied}, **facts}
    if path.exists() and any(output.glob("*/config.yaml")):
        before = json.loads(path.read_text())
        changed = training.changes(training.build(before["options"]), training.build(now["options"]), resumable=False)
        described = [re.findall(r"\d[\d,]*", one["training set"]) for one in (before, facts)]  # words change
        changed += ["training set"] * (described[0] != described[1])
        changed += ["benchmarks"] * (before["benchmarks"] != facts["benchmarks"])
        if changed:
            found = f"found other values for {', '.join(changed)}; give those again, or another --output"
            raise InputError(f"expected the options of the cells in {output} to stay as they were, {found}")
    write_json(path, now)
