"""Train ArcFace, CurricularFace and ReCurricularFace in one environment and write the paper's tables of them.

Each head × seed is trained, exported and evaluated on every benchmark under --benchmarks. Stop it at any moment and
give the same command again: what is finished stays, a half-trained cell goes on where it stopped.

  zoo reproduce --data casia/ --benchmarks benchmarks/ -o reproduction
  zoo reproduce --data faces/ --benchmarks lfw.bin --recipe quick-cpu --set epochs=5 --seeds 2
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import runs
from zoo.commands.progress import training_bar
from zoo.errors import InputError
from zoo.files import atomic_path, write_json, write_text
from zoo.train import config as options

if TYPE_CHECKING:
    from zoo.evaluate.benchmarks.runner import Benchmarks
    from zoo.reproduce.tables import Cell, Stated

HEADS = ("arcface", "curricularface", "recurricularface")
"""The heads of the paper's comparison; the last one named is compared with the others."""

PAPER = "{head}-r18-casia"
"""The packaged recipe of each head under the paper's section 4.2."""

VARIED = ("head", "seed")
"""What differs from cell to cell."""

OWN_FLAGS = {"head": "--heads", "seed": "--seeds", "data": "--data"}
"""Training options that are not --set here, and what they are called instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, metavar="TRAIN", help="training faces, as `zoo train --data` takes them"
    )
    parser.add_argument(
        "--benchmarks",
        required=True,
        metavar="DIR",
        help="a folder of benchmarks (.bin, IJBB, IJBC, tinyface), or a .bin",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings a head, seeds 0 to N − 1 (default: 3)"
    )
    parser.add_argument("--heads", nargs="+", default=list(HEADS), metavar="NAME", help="default: the paper's three")
    parser.add_argument(
        "--recipe", metavar="NAME|FILE", help="one recipe for all heads; default: the paper's, section 4.2"
    )
    parser.add_argument(
        "--set", metavar="key=value", action="append", default=[], help="any other option of `zoo train`"
    )
    parser.add_argument(
        "--stated",
        metavar="FILE.csv",
        help="figures to stand below ours, such as the paper's: benchmark,figure,head,percent",
    )
    parser.add_argument("-o", "--output", default="reproduction", metavar="OUT", help="default: reproduction")
    parser.add_argument("--quiet", action="store_true", help="no progress on the terminal")


@dataclass(frozen=True)
class Place:
    """Where one head × seed lives, and how it is trained."""

    head: str
    seed: int
    folder: Path
    config: options.TrainConfig

    def done(self, step: str) -> bool:
        """Whether `step` (trained, exported, evaluated) was finished."""
        return (self.folder / f".{step}").exists()

    def finish(self, step: str) -> None:
        """Remembers that `step` is finished, after all that it wrote."""
        write_text(self.folder / f".{step}", "")


Say = Callable[[Place, str], None]


def run(args: argparse.Namespace) -> int:
    """Trains, exports and evaluates what is missing; 0 when all is there, 130 or 143 when a signal stopped it."""
    if "RANK" in os.environ:
        raise InputError("expected one process, found torchrun, under which only `zoo train` works; start it alone")
    from zoo.evaluate.benchmarks.runner import open_benchmarks
    from zoo.reproduce.tables import read_stated

    stated = read_stated(Path(args.stated)) if args.stated else {}
    out = Path(args.output)
    places = plan(args, out)
    benchmarks = open_benchmarks(args.benchmarks)
    if benchmarks.not_whole:
        raise InputError(benchmarks.not_whole[0])
    facts = {
        "training set": check_training(places),
        "benchmarks": [[one.protocol.data, one.protocol.data_sha256] for one in benchmarks.opened],
    }

    def say(place: Place, what: str) -> None:
        if not args.quiet:
            print(f"[{places.index(place) + 1}/{len(places)}] {place.head}, seed {place.seed}: {what}", flush=True)

    make(out)
    with runs.lock(out):
        agree(out, places[0].config, facts)
        finished: list[Cell] = []
        for place in places:
            status = train_cell(place, args.quiet, say)
            if status:
                return status
            export_cell(place, say)
            finished.append(evaluate_cell(place, benchmarks, say))
            write_tables(out, args, finished, places, facts, stated)
    if not args.quiet:
        print(f"The tables are in {out / 'reproduction.md'}.")
    return 0


def plan(args: argparse.Namespace, out: Path) -> list[Place]:
    """The cells, all heads of a seed before the next seed, so that a part of them compares heads already."""
    if args.seeds < 1:
        raise InputError(f"expected --seeds to be at least 1, found {args.seeds}")
    if len(set(args.heads)) < len(args.heads):
        raise InputError(f"expected each of --heads once, found {' '.join(args.heads)}")
    given: dict[str, Any] = {}
    for assignment in args.set:
        options.set_option(given, assignment)
    for name, flag in OWN_FLAGS.items():
        if name in given:
            raise InputError(f"expected {flag} in place of --set {name}=…, which is not one value for all cells")
    if not args.recipe:
        for head in args.heads:
            if PAPER.format(head=head) not in options.recipes():
                raise InputError(
                    f"expected heads with a recipe of the paper's environment, found {head};"
                    " name one for all by --recipe"
                )
    places = []
    for seed in range(args.seeds):
        for head in args.heads:
            recipe = options.load_recipe(args.recipe or PAPER.format(head=head))
            config = options.build({**recipe, **given, "data": args.data, "head": head, "seed": seed})
            places.append(Place(head, seed, out / f"{head}-seed{seed}", config))
    return places


def check_training(places: Sequence[Place]) -> str:
    """Refuses what would stop a cell hours later: a head, its options, the device, the data; describes the data."""
    from zoo.data.open import open_dataset
    from zoo.heads import build_head
    from zoo.train.build import choose_device

    for place in places:
        build_head(place.head, **place.config.head_options)
    choose_device(places[0].config)
    return open_dataset(places[0].config.data).describe()


def make(out: Path) -> None:
    """The folder of all cells."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected a folder for --output, cannot make {out} ({error.strerror})") from None


def agree(out: Path, config: options.TrainConfig, facts: dict[str, Any]) -> None:
    """Refuses other options, data or benchmarks than the cells in `out` have; remembers them where there is none."""
    path = out / "plan.json"
    now = {"options": {k: v for k, v in options.plain(config).items() if k not in VARIED}, **facts}
    if path.exists() and any(out.glob("*/config.yaml")):
        before = json.loads(path.read_text())
        changed = list(options.changes(options.build(before["options"]), options.build(now["options"])))
        changed += [name for name in facts if before[name] != facts[name]]
        if changed:
            raise InputError(
                f"expected the options of the cells in {out} to stay as they were, found other values for"
                f" {', '.join(changed)}; give those again, or another --output"
            )
    write_json(path, now)


def train_cell(place: Place, quiet: bool, say: Say) -> int:
    """Trains a cell, from its newest checkpoint where it has one; 0, or the exit code of the signal that stopped it."""
    if place.done("trained"):
        return 0
    from zoo.train import checkpoint
    from zoo.train.signals import Interrupted
    from zoo.train.start import train_in

    resume = bool(checkpoint.steps(place.folder / "checkpoint"))
    say(place, "training goes on" if resume else "training")
    try:
        with training_bar(quiet) as watch:
            train_in(place.folder, place.config, resume=resume, watch=watch)
    except Interrupted as stop:
        print(f"zoo: stopped in {place.folder}, which was saved; give the same command again to go on", file=sys.stderr)
        return stop.exit_code
    place.finish("trained")
    return 0


def export_cell(place: Place, say: Say) -> None:
    """Writes a cell's model.onnx, proven against torch."""
    if place.done("exported"):
        return
    from zoo.export.artifacts import export_onnx

    say(place, "exporting")
    export_onnx(place.folder, force=True)
    place.finish("exported")


def evaluate_cell(place: Place, benchmarks: Benchmarks, say: Say) -> Cell:
    """A cell's figures on every benchmark, measured as `zoo evaluate` does or read from its report.json."""
    from zoo.evaluate.benchmarks.options import Options
    from zoo.evaluate.benchmarks.runner import load_model, measure
    from zoo.evaluate.report.record import Report
    from zoo.evaluate.report.write import save_all
    from zoo.reproduce.tables import Cell

    if not place.done("evaluated"):
        say(place, "evaluating")
        # without the cache: embeddings of IJB-C would take a gigabyte a cell
        options = Options(cache=False, device=place.config.device, threads=place.config.threads)
        report = measure(load_model(place.folder, options), benchmarks)
        if report.not_measured:
            raise InputError(report.not_measured[0])
        save_all(place.folder, [report])
        place.finish("evaluated")
    return Cell(place.head, place.seed, Report.read(place.folder / "report.json"))


def write_tables(
    out: Path,
    args: argparse.Namespace,
    cells: Sequence[Cell],
    places: Sequence[Place],
    facts: dict[str, Any],
    stated: Stated,
) -> None:
    """reproduction.md, reproduction.json, roc.svg and roc.png of the cells that are finished."""
    from zoo.evaluate.codec import to_json
    from zoo.evaluate.report.record import Provenance
    from zoo.reproduce import tables

    config = places[0].config
    missing = [f"{place.head} seed {place.seed}" for place in places[len(cells) :]]
    losses = {f"{place.head} seed {place.seed}": last_loss(place.folder) for place in places[: len(cells)]}
    command = shlex.join(["zoo", "reproduce", *words_of(args)])
    notes = [note for cell in cells for found in cell.report.results for note in found.notes]
    notes += [note for cell in cells for note in cell.report.model.notes]
    whose = (
        f"What stands below a figure, as stated, is quoted from {args.stated}."
        if stated
        else "The paper's own figures are not quoted here (doi 10.23977/acss.2024.080201): --stated puts them beside."
    )
    unmeasured = [why for cell in cells for found in cell.report.results for why in found.not_measurable]
    if alone := tables.unmatched(cells, stated):
        notes.append(f"{args.stated} states what is not measured here: {', '.join(alone)}")
    lines = [
        f"# {', '.join(args.heads)}",
        "",
        f"`{command}`",
        "",
        f"Trained on {facts['training set']}: {config.backbone}, {config.epochs} epochs, batch {config.batch_size}, "
        f"learning rate {config.lr:g}, recipe {args.recipe or 'of the paper'}. Mean ± sample standard deviation over "
        "seeds, in percent. Accuracy is over folds, each with the threshold of the others; the embeddings of a picture "
        f"and its mirror image are summed. {whose}",
        "",
    ]
    if missing:
        lines += [f"Not finished, and in no figure below: {', '.join(missing)}.", ""]
    lines += [tables.markdown(cells, args.heads[-1], stated)]
    figure = tables.roc_figure(cells)
    if figure is not None:
        for suffix in ("svg", "png"):
            with atomic_path(out / f"roc.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=160)
        lines += ["## Figure 2: ROC", "", "Mean over seeds; the band reaches from the lowest to the highest seed.", ""]
        lines += ["![ROC](roc.svg)", ""]
    lines += ["## Training loss, mean of the last steps", ""]
    lines += [", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + ".", ""]
    lines += [f"- {note}" for note in dict.fromkeys([*notes, *unmeasured])]
    write_text(out / "reproduction.md", "\n".join(lines).rstrip() + "\n")
    write_json(
        out / "reproduction.json",
        {
            "command": command,
            "options": json.loads((out / "plan.json").read_text()),
            "provenance": to_json(Provenance.here()),
            "missing": missing,
            "training_loss": losses,
            **tables.summary(cells, args.heads[-1]),
        },
    )


def last_loss(run: Path) -> float:
    """The training loss in the last line of a run's log that has one."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([record["loss"] for record in records if "loss" in record][-1])


def words_of(args: argparse.Namespace) -> list[str]:
    """The command line of `args`, without what is default."""
    words = ["--data", args.data, "--benchmarks", args.benchmarks, "--seeds", str(args.seeds)]
    words += ["--heads", *args.heads] if tuple(args.heads) != HEADS else []
    words += ["--recipe", args.recipe] if args.recipe else []
    words += ["--stated", args.stated] if args.stated else []
    return [*words, *(word for assignment in args.set for word in ("--set", assignment)), "-o", args.output]
