"""The log of a run: one line of metrics.jsonl every few steps, and TensorBoard's files made from it."""

import contextlib
import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from zoo.errors import InputError
from zoo.files import json_safe, write_text
from zoo.heads import MarginSoftmaxLoss
from zoo.train.watch import Record


class Logger(Protocol):
    """Where the lines of a run's log go besides metrics.jsonl: made with the run's folder and its options."""

    def write(self, record: Record) -> None:
        """A line of metrics.jsonl."""

    def close(self) -> None:
        """The run has ended."""


class MetricsFile:
    """metrics.jsonl: a JSON object a line, each with the number of steps done and the time when it was written.

    It is the one record of a run: what loggers write and the curves are made from it.
    """

    def __init__(self, path: Path, resume_at: int) -> None:
        """Opens `path` for appending; what a run that is resumed wrote after step `resume_at` is dropped."""
        self.kept: list[str] = []
        self.loggers: list[Logger] = []
        if path.is_file():
            if resume_at:
                lines = path.read_text().splitlines(keepends=True)
                # the validation of that step is made anew
                self.kept = [line for line in lines if reached(line) <= resume_at - ('"validation"' in line)]
            write_text(path, "".join(self.kept))
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def follow(self, logger: Logger) -> None:
        """Gives `logger` the lines that are kept, and those that come."""
        for line in self.kept:
            logger.write(json.loads(line))
        self.loggers.append(logger)

    def write(self, record: Record) -> None:
        """Appends `record`; numbers that are not finite become null, as JSON knows no NaN."""
        clean = json_safe(record) | {"time": round(time.time(), 3)}
        self.file.write(json.dumps(clean) + "\n")
        self.file.flush()
        for logger in self.loggers:
            logger.write(clean)

    def close(self) -> None:
        """Flushes to disk, where the file is on one."""
        for logger in self.loggers:
            logger.close()
        if Path(self.file.name).is_file():
            os.fsync(self.file.fileno())
        self.file.close()


def figures_of(record: Record) -> dict[str, float]:
    """The numbers of a record of metrics.jsonl: train/loss, …, validation/accuracy, …"""
    figures = {f"train/{name}": value for name, value in record.items() if name not in ("step", "time")}
    figures |= {f"validation/{name}": value for name, value in record.get("validation", {}).items()}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def package(name: str) -> Any:
    """A logger's package; InputError with what to install where it is missing."""
    try:
        return importlib.import_module({"tensorboard": "torch.utils.tensorboard"}.get(name, name))
    except ImportError:
        raise InputError(
            f"expected the package {name} for --log {name}, found none; pip install 'timm-face-zoo[{name}]'"
        ) from None


class TensorBoard:
    """Event files in the run's folder, written anew: they cannot be shortened."""

    def __init__(self, run: Path, options: Mapping[str, Any]) -> None:
        board = package("tensorboard")
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
        self.writer = board.SummaryWriter(str(run / "tensorboard"))

    def write(self, record: Record) -> None:
        for name, value in figures_of(record).items():
            self.writer.add_scalar(name, value, record["step"], walltime=record["time"])

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases under the run's name; a resumed run goes on there, and what it has is not repeated."""

    def __init__(self, run: Path, options: Mapping[str, Any]) -> None:
        name = run.resolve().name
        self.run = package("wandb").init(project="zoo", id=name, name=name, resume="allow", config=dict(options))

    def write(self, record: Record) -> None:
        if record["step"] >= self.run.step:
            self.run.log(figures_of(record), step=record["step"])

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says; a resumed run is a new one with the lines before it."""

    def __init__(self, run: Path, options: Mapping[str, Any]) -> None:
        self.mlflow = package("mlflow")
        self.mlflow.start_run(run_name=run.resolve().name)
        self.mlflow.log_params(dict(options))

    def write(self, record: Record) -> None:
        self.mlflow.log_metrics({name.replace(" ", "_"): v for name, v in figures_of(record).items()}, record["step"])

    def close(self) -> None:
        self.mlflow.end_run()


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
"""What --log takes: a new one is a class and a line here."""


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
