"""The pages of a grid: reproduction.md, reproduction.json and the ROC figure, written anew after every cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.evaluate.codec import to_json
from zoo.evaluate.report.record import Provenance
from zoo.files import atomic_path, write_json, write_text
from zoo.reproduce import tables
from zoo.reproduce.stated import Stated, cited
from zoo.reproduce.tables import Cell

if TYPE_CHECKING:
    from zoo.reproduce.grid import Grid, Job


def write_page(grid: Grid, jobs: Sequence[Job], cells: Sequence[Cell], facts: dict[str, Any], stated: Stated) -> None:
    """Writes the pages of the cells that are finished: the first of `jobs`."""
    missing = [str(job) for job in jobs[len(cells) :]]
    losses = {str(job): last_loss(job.folder) for job in jobs[: len(cells)]}
    lines = [f"# {', '.join(grid.heads)}", "", f"`{grid.command}`", "", environment(grid, jobs[0], facts, stated), ""]
    if missing:
        lines += [f"Not finished, and in no figure below: {', '.join(missing)}.", ""]
    lines += [tables.markdown(cells, grid.heads[-1], stated)]
    figure = tables.roc_figure(cells)
    if figure is not None:
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
    """The last training loss in a run's log."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([record["loss"] for record in records if "loss" in record][-1])
