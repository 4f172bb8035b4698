"""The log of a run: one line of metrics.jsonl every few steps, and TensorBoard's files made from it."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from zoo.errors import needs
from zoo.files import json_safe, write_text
from zoo.heads import MarginSoftmaxLoss
from zoo.train.watch import Record


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
                lines = path.read_text().splitlines(keepends=True)
                # the validation of that step is made anew
                kept = [line for line in lines if reached(line) <= resume_at - ('"validation"' in line)]
            write_text(path, "".join(kept))
        self.board = Board(board) if board else None
        if self.board:
            for line in kept:
                self.board.write(json.loads(line))
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def write(self, record: Record) -> None:
        """Appends `record`; numbers that are not finite become null, as JSON knows no NaN."""
        clean = json_safe(record) | {"time": round(time.time(), 3)}
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
        with needs("tensorboard", "tensorboard", "for --log tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))

    def write(self, record: Record) -> None:
        """The numbers of a record of metrics.jsonl: train/loss, …, validation/accuracy, …"""
        figures = {f"train/{name}": value for name, value in record.items() if name not in ("step", "time")}
        figures |= {f"validation/{name}": value for name, value in record.get("validation", {}).items()}
        for name, value in figures.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, record["step"], walltime=record["time"])

    def close(self) -> None:
        self.writer.close()


def reached(line: str) -> float:
    """The step in a line of metrics.jsonl; infinite for a line cut short by a crash."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Meter:
    """Sums on the device what the log shows; measures images per second and the share of waiting for data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
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
