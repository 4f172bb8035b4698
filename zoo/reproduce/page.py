"""The pages of several trainings, of one grid or gathered from many folders: reproduction.md, .json, and the ROC."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError
from zoo.evaluate.report.record import Provenance, Report
from zoo.evaluate.results import to_json
from zoo.files import atomic_path, new_folder, write_json, write_text
from zoo.messages import log
from zoo.reproduce import tables
from zoo.train import config as training

ABOUT = (
    "Mean ± sample standard deviation over seeds, in percent. Accuracy is over folds, each at the threshold of the "
    "others; an embedding is the sum over a picture and its mirror image."
)


@dataclass(frozen=True)
class Page:
    """What stands around the tables."""

    output: Path
    command: str  #: What makes the page
    environment: str  #: How all cells were trained, in a sentence
    stated: str = "paper"  #: As `stated_by` takes it
    difference: float = 0.01  #: For which the seeds that it needs are named, a fraction

    def write(self, cells: Sequence[tables.Cell], second: str, missing: Sequence[str] = ()) -> None:
        """Writes the pages of these cells; `second` is compared with the other columns."""
        stated = tables.stated_by(self.stated)
        quoted = f' Figures marked "as stated" are quoted from {tables.cited(self.stated)}.' if stated else ""
        lines = [f"# {', '.join(dict.fromkeys(cell.head for cell in cells))}", "", f"`{self.command}`", ""]
        lines += [f"{self.environment} {ABOUT}{quoted}", ""]
        if missing:
            lines += [f"Not finished, and in no figure below: {', '.join(missing)}.", ""]
        lines += [tables.markdown(cells, second, stated, self.difference)]
        if figure := tables.roc_figure(cells):
            for suffix in ("svg", "png"):
                with atomic_path(self.output / f"roc.{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix, dpi=160)
            lines += ["## Figure 2: ROC", "", "Mean over seeds; the band spans the lowest to the highest seed.", ""]
            lines += ["![ROC](roc.svg)", ""]
        lines += ["## Training loss, mean of the last steps", ""]
        lines += [", ".join(f"{cell} {cell.loss:.3f}" for cell in cells) + ".", ""]
        lines += [f"- {note}" for note in dict.fromkeys(self.notes(cells))]
        write_text(self.output / "reproduction.md", "\n".join(lines).rstrip() + "\n")
        record = {"command": self.command, "environment": self.environment, "missing": list(missing)}
        record |= {"provenance": to_json(Provenance.here()), **tables.summary(cells, second, self.difference)}
        write_json(self.output / "reproduction.json", record)

    def notes(self, cells: Sequence[tables.Cell]) -> list[str]:
        """What a reader of the tables should know, in sentences."""
        reports = [cell.report for cell in cells]
        found = [note for report in reports for result in report.results for note in result.notes]
        found += [note for report in reports for note in report.model.notes]
        if alone := tables.unmatched(cells, tables.stated_by(self.stated)):
            found.append(f"{tables.cited(self.stated)}: not measured here are {', '.join(alone)}")
        return found + [why for report in reports for result in report.results for why in result.not_measurable]


def environment(configs: Sequence[training.TrainConfig], data: str) -> str:
    """How cells were trained, in a sentence, and where the columns' options differ."""
    one, varied = configs[0], training.option_names(varied=True)
    differ = {name for config in configs for name in training.changes(one, config, resumable=False)} - {*varied}
    beside = f"; not the same in all columns: {', '.join(sorted(differ))}" if differ else ""
    schedule = f"{one.epochs} epochs, batch {one.batch_size}, learning rate {one.lr:g}"
    return f"Trained on {data}: {one.backbone}, {schedule}{beside}."


def read_cell(folder: Path, head: str, seed: int) -> tables.Cell:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [float(record["loss"]) for record in records if "loss" in record]
    return tables.Cell(head, seed, Report.read(folder / "report.json"), losses[-1])


def gather(
    folders: Sequence[Path],
    output: Path = Path("reproduction"),
    heads: Sequence[str] = (),
    stated: str = "paper",
    difference: float = 0.01,
) -> tuple[tables.Cell, ...]:
    """The tables, in `output`, of all finished cells in `folders`, which several calls or machines have made.

    `heads` chooses the columns and their order; the last one is compared with the others, by default ReCurricularFace
    where it is there. Of a cell in two folders the first counts. InputError for no cell, and where a benchmark differs.
    """
    found: dict[tuple[str, int], Path] = {}
    for folder in folders:
        for report in sorted(folder.glob("*/report.json")):
            if named := re.fullmatch(r"(.+)-seed(\d+)", report.parent.name):
                cell = named[1], int(named[2])
                if cell in found:
                    log.warning("%s is left out: %s is the same cell", report.parent, found[cell])
                found.setdefault(cell, report.parent)
    there = sorted({head for head, _ in found}, key=lambda head: (head == "recurricularface", head))
    columns = list(heads) or there
    if lacking := [head for head in columns if head not in there] or ([] if found else ["any head"]):
        names = ", ".join(map(str, folders))
        raise InputError(f"expected finished cells of {lacking[0]} in {names}, found {', '.join(there) or 'none'}")
    keys = sorted((key for key in found if key[0] in columns), key=lambda key: (columns.index(key[0]), key[1]))
    cells = [read_cell(found[key], *key) for key in keys]
    hashes: dict[str, str] = {}
    for result in (result for cell in cells for result in cell.report.results):
        if hashes.setdefault(result.data, result.data_sha256) != result.data_sha256:
            raise InputError(f"expected one {result.data} for all cells, found two; gather each by itself")
    configs = [training.load_config(found[key] / "config.yaml") for key in keys]
    data = ", ".join(dict.fromkeys(Path(config.data).name for config in configs))
    words = ["zoo", "reproduce", "--gather", *map(str, folders), *(["--heads", *heads] if heads else [])]
    words += ["--stated", stated] if stated != "paper" else []
    words += ["--difference", f"{100 * difference:g}"] if difference != 0.01 else []
    with new_folder(output, keep=lambda folder: True):
        page = Page(output, shlex.join([*words, "-o", str(output)]), environment(configs, data), stated, difference)
        page.write(cells, columns[-1])
    return tuple(cells)
