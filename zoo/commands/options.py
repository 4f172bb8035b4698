"""What several commands share: verifiers, answers, notes and progress bars."""

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import Exit
from zoo.messages import log
from zoo.options import MODEL_HELP as MODEL_HELP
from zoo.options import Parser as Parser
from zoo.options import given as given
from zoo.options import positive as positive

if TYPE_CHECKING:
    from zoo.inference.convention import GivenInput
    from zoo.recognition import FaceVerifier
    from zoo.train.start import Standing, Watch


def given_input(args: argparse.Namespace) -> "GivenInput | None":
    """What `add_input_arguments` asked for; None where nothing is given."""
    from zoo.inference.convention import GivenInput

    given = GivenInput(args.mean, args.std, args.bgr, args.model_output)
    return None if given == GivenInput() else given


def verifier_of(args: argparse.Namespace, **options: Any) -> "FaceVerifier":
    """The verifier that `add_model_arguments` asked for."""
    from zoo.recognition import FaceVerifier

    limit_threads(args)
    options |= {"face": args.face, "aligned": args.aligned, "threads": args.threads, "input": given_input(args)}
    return FaceVerifier(args.model, args.detector, **options)


def limit_threads(args: argparse.Namespace) -> None:
    """From now on OpenCV uses the threads that `--threads` asks for, or the cores that this process may use."""
    import cv2

    from zoo.machine import cores

    cv2.setNumThreads(args.threads or cores())


def answer(args: argparse.Namespace, record: Mapping[str, Any], lines: Iterable[str]) -> Exit:
    """Prints the record for a script that asked for --json, else its notes and the lines for people."""
    print_notes([] if args.json else record.get("notes", ()))
    print(json.dumps(record, indent=2) if args.json else "\n".join(lines))
    return Exit.OK


def print_notes(notes: Sequence[str], most: int | None = None, where: str = "") -> None:
    """Prints notes on stderr; of more than `most`, the first ones and `where` the others are."""
    for note in notes[:most]:
        print(f"note: {note}", file=sys.stderr)
    if most is not None and len(notes) > most:
        print(f"note: and {len(notes) - most:,} more, listed in {where}", file=sys.stderr)


@contextlib.contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the remaining time, advanced by the yielded function; no bar outside a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


@contextlib.contextmanager
def training_bar(quiet: bool) -> "Iterator[Watch]":
    """A bar of a training's steps on stderr, with the figures of its last log line; outside a terminal a line a minute.

    What is logged meanwhile appears above it; warnings alone where all should be `quiet`.
    """
    from zoo.train.start import facts, heartbeat, unwatched

    if quiet:
        log.setLevel(logging.WARNING)
    if quiet or not sys.stderr.isatty():
        yield unwatched if quiet else heartbeat()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("epoch {task.fields[epoch]}", BarColumn(bar_width=24), MofNCompleteColumn(), "{task.fields[facts]}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task("train", total=None, epoch="", facts="", visible=False)

        def show(now: "Standing") -> None:
            epoch, figures = f"{now.epoch}/{now.epochs}", "  ".join(facts(now.record))
            progress.update(task, total=now.total_steps, completed=now.step, visible=True, epoch=epoch, facts=figures)

        yield show
