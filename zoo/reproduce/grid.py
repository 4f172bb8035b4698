"""A grid of trainings: every head with every seed is trained, exported and evaluated; finished steps are kept."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import runs
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.benchmarks.runner import Benchmarks, load_model, measure, open_benchmarks
from zoo.evaluate.codec import to_json
from zoo.evaluate.report.page import save_all
from zoo.evaluate.report.record import Provenance, Report
from zoo.export.artifacts import export_onnx
from zoo.files import atomic_path, new_folder, write_json, write_text
from zoo.heads import build_head
from zoo.messages import log
from zoo.reproduce import tables
from zoo.reproduce.tables import Cell, Stated, cited, stated_by
from zoo.train import checkpoint
from zoo.train import config as training
from zoo.train.build import choose_device
from zoo.train.recipes import load_recipe, recipes
from zoo.train.start import train_in
from zoo.train.watch import Watch, unwatched

HEADS = ("arcface", "cosface", "curricularface", "adaface", "recurricularface")
"""The last one is compared with the others; the paper itself has no CosFace and no AdaFace."""

PAPER = "{head}-r18-casia"
"""The packaged recipe of each head under the paper's section 4.2."""


@dataclass(frozen=True)
class Job:
    """One head with one seed: its run folder and its options."""

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
class Grid:
    """What to train and to measure: every head with every seed, under equal conditions."""

    data: str
    """The training set, as `zoo train --data` takes it."""
    benchmarks: str
    """A folder of benchmarks, or one of them."""
    output: Path = Path("reproduction")
    """The folder of the tables and of a run folder per cell."""
    heads: tuple[str, ...] = HEADS
    seeds: int = 3
    """Trainings per head, with seeds 0 to `seeds` − 1."""
    recipe: str | None = None
    """One recipe for all heads, a packaged one's name or a YAML file; None: the paper's for each head."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other training options, e.g. {"epochs": 5}."""
    stated: str = "paper"
    """Published figures to print below the measured ones: "paper" (its Tables 1 to 3), "none", or a CSV file."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"expected --seeds to be at least 1, found {self.seeds}")
        if len(set(self.heads)) < len(self.heads):
            raise InputError(f"expected each of --heads once, found {' '.join(self.heads)}")
        for name in self.options:
            if name in training.OPTIONS and (flag := training.OPTIONS[name].grid_flag):
                raise InputError(f"expected {flag} in place of --set {name}=…, which is not one value for all cells")
        for head in () if self.recipe else self.heads:
            if PAPER.format(head=head) not in recipes():
                expected = "expected heads with a recipe of the paper's environment"
                raise InputError(f"{expected}, found {head}; name one for all by --recipe")

    def jobs(self) -> list[Job]:
        """All heads of a seed before the next seed, so that the first results compare heads already."""
        jobs = []
        for seed in range(self.seeds):
            for head in self.heads:
                recipe = load_recipe(self.recipe or PAPER.format(head=head))
                config = training.build({**recipe, **self.options, "data": self.data, "head": head, "seed": seed})
                jobs.append(Job(head, seed, self.output / f"{head}-seed{seed}", config))
        return jobs

    @property
    def command(self) -> str:
        """The command line of this grid, without defaults."""
        words = ["--data", self.data, "--benchmarks", self.benchmarks, "--seeds", str(self.seeds)]
        words += ["--heads", *self.heads] if self.heads != HEADS else []
        words += ["--recipe", self.recipe] if self.recipe else []
        words += ["--stated", self.stated] if self.stated != "paper" else []
        words += [word for assignment in assignments(self.options) for word in ("--set", assignment)]
        return shlex.join(["zoo", "reproduce", *words, "-o", str(self.output)])


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


@dataclass(frozen=True)
class Reproduction:
    folder: Path
    """It holds reproduction.md with the tables, reproduction.json, the ROC figure, and a run folder per cell."""
    cells: tuple[Cell, ...]


def reproduce(grid: Grid, watch: Watch = unwatched) -> Reproduction:
    """Trains, exports and evaluates every cell of the grid, and writes the tables after each.

    Finished steps are kept: the same call again continues an interrupted one, and more seeds add cells. InputError for
    options that do not fit, before anything is trained; Interrupted when a signal stopped a training after saving it.
    """
    if "RANK" in os.environ:
        raise InputError("expected one process, found torchrun, under which only `zoo train` works; start it alone")
    stated = stated_by(grid.stated)
    jobs = grid.jobs()
    opened = open_benchmarks(grid.benchmarks)
    if opened.not_whole:
        raise InputError(opened.not_whole[0])
    measured_on = [[protocol.data, protocol.data_sha256] for protocol, _ in opened.opened]
    facts = {"training set": check_training(jobs), "benchmarks": measured_on}
    cells: list[Cell] = []
    with new_folder(grid.output, keep=lambda folder: any(folder.glob("*/config.yaml"))), runs.lock(grid.output):
        remember(grid.output, jobs[0].config, facts)
        for number, job in enumerate(jobs, 1):
            place = f"[{number}/{len(jobs)}] {job.head}, seed {job.seed}"
            cells.append(run_job(job, place, opened, watch))
            write_page(grid, jobs, cells, facts, stated)
    return Reproduction(grid.output, tuple(cells))


def check_training(jobs: Sequence[Job]) -> str:
    """Describes the training data; InputError for a head, a head's option, a device or data that would fail later."""
    for job in jobs:
        build_head(job.head, **job.config.head_options)
    choose_device(jobs[0].config)
    return open_dataset(jobs[0].config.data).describe()


def remember(output: Path, config: training.TrainConfig, facts: dict[str, Any]) -> None:
    """Writes plan.json; InputError where `output` has cells with other options, data or benchmarks."""
    path = output / "plan.json"
    varied = training.option_names(varied=True)
    now = {"options": {name: value for name, value in training.plain(config).items() if name not in varied}, **facts}
    if path.exists() and any(output.glob("*/config.yaml")):
        before = json.loads(path.read_text())
        changed = training.changes(training.build(before["options"]), training.build(now["options"]), resumable=False)
        changed += [name for name in facts if comparable(before[name]) != comparable(facts[name])]
        if changed:
            found = f"found other values for {', '.join(changed)}; give those again, or another --output"
            raise InputError(f"expected the options of the cells in {output} to stay as they were, {found}")
    write_json(path, now)


def comparable(fact: Any) -> Any:
    """What two facts are compared by: of a description only the numbers, as other versions may word it otherwise."""
    return re.findall(r"\d[\d,]*", fact) if isinstance(fact, str) else fact


def run_job(job: Job, place: str, benchmarks: Benchmarks, watch: Watch) -> Cell:
    """Trains, exports and evaluates a cell as the commands do; what was finished before is kept."""
    if not job.done("trained"):
        resume = bool(checkpoint.steps(job.folder / "checkpoint"))
        log.info("%s: %s", place, "resuming the training" if resume else "training")
        train_in(job.folder, job.config, resume=resume, watch=watch)
        job.finish("trained")
    if not job.done("exported"):
        log.info("%s: exporting", place)
        export_onnx(job.folder, force=True)
        job.finish("exported")
    if not job.done("evaluated"):
        log.info("%s: evaluating", place)
        # no cache: the embeddings of IJB-C would take a gigabyte per cell
        options = Options(cache=False, device=job.config.device, threads=job.config.threads)
        report = measure(load_model(job.folder, options), benchmarks)
        if report.not_measured:
            raise InputError(report.not_measured[0])
        save_all(job.folder, [report])
        job.finish("evaluated")
    return Cell(job.head, job.seed, Report.read(job.folder / "report.json"))


def write_page(grid: Grid, jobs: Sequence[Job], cells: Sequence[Cell], facts: dict[str, Any], stated: Stated) -> None:
    """Writes the pages of the cells that are finished: the first of `jobs`."""
    missing = [str(job) for job in jobs[len(cells) :]]
    losses = {str(job): last_loss(job.folder) for job in jobs[: len(cells)]}
    lines = [f"# {', '.join(grid.heads)}", "", f"`{grid.command}`", "", environment(grid, jobs[0], facts, stated), ""]
    if missing:
        lines += [f"Not finished, and in no figure below: {', '.join(missing)}.", ""]
    lines += [tables.markdown(cells, grid.heads[-1], stated)]
    if figure := tables.roc_figure(cells):
        for suffix in ("svg", "png"):
            with atomic_path(grid.output / f"roc.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=160)
        lines += ["## Figure 2: ROC", "", "Mean over seeds; the band spans the lowest to the highest seed.", ""]
        lines += ["![ROC](roc.svg)", ""]
    lines += ["## Training loss, mean of the last steps", ""]
    lines += [", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + ".", ""]
    lines += [f"- {note}" for note in dict.fromkeys(notes(grid, cells, stated))]
    write_text(grid.output / "reproduction.md", "\n".join(lines).rstrip() + "\n")
    options = json.loads((grid.output / "plan.json").read_text())
    record = {"command": grid.command, "options": options, "provenance": to_json(Provenance.here())}
    record |= {"missing": missing, "training_loss": losses, **tables.summary(cells, grid.heads[-1])}
    write_json(grid.output / "reproduction.json", record)


def environment(grid: Grid, job: Job, facts: dict[str, Any], stated: Stated) -> str:
    """How all cells were trained and measured, in one paragraph."""
    config = job.config
    quoted = f' Figures marked "as stated" are quoted from {cited(grid.stated)}.' if stated else ""
    return (
        f"Trained on {facts['training set']}: {config.backbone}, {config.epochs} epochs, batch {config.batch_size}, "
        f"learning rate {config.lr:g}, recipe {grid.recipe or 'of the paper'}. Mean ± sample standard deviation over "
        "seeds, in percent. Accuracy is over folds, each at the threshold of the others; an embedding is the sum over "
        f"a picture and its mirror image.{quoted}"
    )


def notes(grid: Grid, cells: Sequence[Cell], stated: Stated) -> list[str]:
    """What a reader of the tables should know, in sentences."""
    reports = [cell.report for cell in cells]
    found = [note for report in reports for result in report.results for note in result.notes]
    found += [note for report in reports for note in report.model.notes]
    if alone := tables.unmatched(cells, stated):
        found.append(f"{cited(grid.stated)}: not measured here are {', '.join(alone)}")
    return found + [why for report in reports for result in report.results for why in result.not_measurable]


def last_loss(run: Path) -> float:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([record["loss"] for record in records if "loss" in record][-1])
