"""The progress bar of the commands that work through many files; nothing is drawn outside a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.train.watch import Standing, Watch


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
def training_bar(quiet: bool) -> Iterator[Watch]:
    """A bar of a training's steps on stderr, with the figures of its last log line; no bar outside a terminal.

    What is logged meanwhile appears above it.
    """
    from zoo.train.watch import facts, unwatched

    if quiet or not sys.stderr.isatty():
        yield unwatched
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("epoch {task.fields[epoch]}", BarColumn(bar_width=24), MofNCompleteColumn(), "{task.fields[facts]}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task("train", total=None, epoch="", facts="", visible=False)

        def show(now: Standing) -> None:
            epoch, figures = f"{now.epoch}/{now.epochs}", "  ".join(facts(now.record))
            done, total = now.step, now.total_steps
            progress.update(task, total=total, completed=done, visible=True, epoch=epoch, facts=figures)

        yield show
