"""What people watch: one line of metrics.jsonl every few steps, and a progress bar on the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.errors import InputError
from zoo.files import write_text
from zoo.heads import MarginSoftmaxLoss


class MetricsFile:
    """metrics.jsonl: a JSON object a line, each with the number of steps done and the time when it was written.

    It is the one record of a run: TensorBoard's files and the curves are made from it.
    """

    def __init__(self, path: Path, resume_at: int, board: Path | None = None) -> None:
        """Opens `path` for appending; what a run that is resumed wrote after step `resume_at` is dropped.

        With a folder `board`, TensorBoard's event files there are written anew, from what is kept and what comes.
        """
        kept = []
        if path.is_file():
            if resume_at:
                kept = [line for line in path.read_text().splitlines(keepends=True) if reached(line) <= resume_at]
            write_text(path, "".join(kept))
        self.board = Board(board) if board else None
        if self.board:
            for line in kept:
                self.board.write(json.loads(line))
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def write(self, record: dict[str, Any]) -> None:
        """Appends `record`; numbers that are not finite become null, as JSON knows no NaN."""
        clean = {key: finite_or_none(value) for key, value in record.items()} | {"time": round(time.time(), 3)}
        self.file.write(json.dumps(clean) + "\n")
        self.file.flush()
        if self.board:
            self.board.write(clean)

    def close(self) -> None:
        """Flushes to disk, where the file is on one."""
        if self.board:
            self.board.close()
        if Path(self.file.name).is_file():
            os.fsync(self.file.fileno())
        self.file.close()


class Board:
    """A run's records as TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        """Starts `folder` anew: event files cannot be shortened, and a resumed run would show its last steps twice."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "expected the package tensorboard for --log tensorboard, found none; pip install"
                " 'timm-face-zoo[tensorboard]'"
            ) from None
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))

    def write(self, record: dict[str, Any]) -> None:
        """The numbers of a record of metrics.jsonl: train/loss, …, validation/accuracy, …"""
        figures = {f"train/{name}": value for name, value in record.items() if name not in ("step", "time")}
        figures |= {f"validation/{name}": value for name, value in record.get("validation", {}).items()}
        for name, value in figures.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, record["step"], walltime=record["time"])

    def close(self) -> None:
        """Flushes and closes the event file."""
        self.writer.close()


def reached(line: str) -> float:
    """The step in a line of metrics.jsonl; infinite for a line cut short by a crash."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def finite_or_none(value: Any) -> Any:
    """`value`, or None where it is a float that is not finite."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def facts(record: dict[str, Any]) -> list[str]:
    """The figures of a log line as a person reads them."""
    shown = [f"{record['images_per_second']:.0f} images/s", f"loss {record['loss']:.3f}"]
    shown += [f"t {record['t']:.3f}"] if "t" in record else []
    shown += [f"target cosine {record['mean_target_cosine']:.3f}"] if "mean_target_cosine" in record else []
    shown += [f"{record['skipped']} damaged images skipped"] if record.get("skipped") else []
    return shown


class Meter:
    """Sums on the device what the log shows; measures images a second and the share of time spent waiting for data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Starts a new interval."""
        self.loss = torch.zeros((), device=self.device)
        self.passes = self.images = 0
        self.waited_seconds = 0.0
        self.since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block's time as waiting for data."""
        before = time.perf_counter()
        yield
        self.waited_seconds += time.perf_counter() - before

    def add(self, loss: torch.Tensor, images: int) -> None:
        """One forward and backward pass."""
        self.loss += loss.detach()
        self.passes += 1
        self.images += images

    def read(self, criterion: MarginSoftmaxLoss) -> dict[str, float]:
        """The interval's figures; waits for the device and starts the next interval."""
        figures = {"loss": float(self.loss / self.passes)}
        figures |= {name: float(value) for name, value in criterion.stats().items()}
        seconds = time.perf_counter() - self.since
        figures |= {"images_per_second": self.images / seconds, "data_wait": self.waited_seconds / seconds}
        self.reset()
        return figures


class Watch:
    """The terminal of a run: a bar with images a second, time left, loss, t and mean target cosine."""

    def __init__(self, total_steps: int, done: int, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            refresh_per_second=2,
        )
        self.task = self.progress.add_task("train", total=total_steps, completed=done, epoch="", facts="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, done: int, epoch: str) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=done, epoch=epoch)

    def facts(self, record: dict[str, Any]) -> None:
        """Shows the figures of a log line beside the bar."""
        self.progress.update(self.task, facts="  ".join(facts(record)))

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.progress.print(text, highlight=False, soft_wrap=True, markup=False)
