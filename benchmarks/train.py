"""What the training loop costs beside the arithmetic: `zoo train` against the bare forward, backward and step.

    python benchmarks/train.py [--backbone resnet18] [--stem stock] [--batch-size 32] [--steps 12] [--rounds 5]

Both sides train the same backbone with the same dense centres for 941 classes on the same pictures in memory, in turn,
in one process. The tables give medians over the rounds, the ratio, and the share of a step spent waiting for data; then
how long a checkpoint, which is written beside the training, makes it wait and how much longer the steps beside it take,
against a bare write and fsync of as many bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from zoo.backbones.timm_folder import normalise
from zoo.modelinfo import InputSpec
from zoo.train import build as parts
from zoo.train import checkpoint, loop, people
from zoo.train.config import TrainConfig, build, save_config

CLASSES = 941


class InMemory:
    """Pictures of noise: what they show costs nothing."""

    name = "noise in memory"
    num_classes = CLASSES

    def __init__(self, images: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (images, 112, 112, 3), dtype=np.uint8)
        self.labels = np.arange(images, dtype=np.int64) % CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = self.pixels[index]
        return picture

    def describe(self) -> str:
        return f"{len(self):,} images of {CLASSES} identities"


def bare(config: TrainConfig, dataset: InMemory, steps: int, training: parts.Training | None = None) -> Iterator[float]:
    """Images a second of forward, backward and step alone, a figure a round, for ever."""
    training = training or parts.build(config, CLASSES, torch.device("cpu"))
    training.model.train()
    pixels = normalise(torch.from_numpy(dataset.pixels[: config.batch_size]), InputSpec())
    labels = torch.from_numpy(dataset.labels[: config.batch_size])
    while True:
        before = time.perf_counter()
        for _ in range(steps):
            training.criterion(training.model(pixels), labels).backward()
            training.optimizer.step()
            training.optimizer.zero_grad(set_to_none=True)
        yield steps * config.batch_size / (time.perf_counter() - before)


def zoo_train(config: TrainConfig, folder: Path) -> tuple[float, float]:
    """Images a second of the loop over one epoch, without its start and its last checkpoint, and its wait for data."""
    run = folder / f"run-{time.monotonic_ns()}"
    run.mkdir()
    save_config(config, run / "config.yaml")
    result = loop.train(config, run)
    return result["images_per_second"], result["data_wait"]


@dataclass
class Stall:
    """Median seconds around a checkpoint, and its size in bytes."""

    waiting: float
    """That the training waits in `Saver.save`."""
    slower: float
    """That the steps until the checkpoint is whole, the waiting among them, take longer than such steps else."""
    writing: float
    """From the call until the checkpoint is whole, without steps beside it."""
    bare: float
    """A bare write and fsync of as many bytes."""
    size: int


def checkpoint_stall(config: TrainConfig, dataset: InMemory, folder: Path, rounds: int) -> Stall:
    """What a checkpoint costs a training that goes on beside it."""
    training = parts.build(config, CLASSES, torch.device("cpu"))
    steps = bare(config, dataset, 1, training)
    next(steps), next(steps)
    found: list[tuple[float, float, float, float]] = []
    with checkpoint.Saver(folder / "checkpoint", keep=1) as saver:
        for number in range(rounds + 1):
            usual = config.batch_size / statistics.median(next(steps) for _ in range(3))
            before, passed = time.perf_counter(), 0
            saver.save(training.state(), number)
            waiting = time.perf_counter() - before
            while saver.thread is not None and saver.thread.is_alive():
                next(steps)
                passed += 1
            beside = time.perf_counter() - before
            saver.wait()
            before = time.perf_counter()
            saver.save(training.state(), number)
            saver.wait()
            writing = time.perf_counter() - before
            size = sum(file.stat().st_size for file in (folder / f"checkpoint/step-{number:08d}").iterdir())
            found.append((waiting, beside - passed * usual, writing, flushed(folder / "bare", os.urandom(size))))
    waiting, beside, writing, bare_write = (statistics.median(column) for column in zip(*found[1:], strict=True))
    return Stall(waiting, beside, writing, bare_write, size)


def flushed(path: Path, content: bytes) -> float:
    """Seconds to write `content` and have the disk confirm it."""
    before = time.perf_counter()
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--stem", default="stock")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = build(
        {
            "backbone": args.backbone,
            "stem": args.stem,
            "batch_size": args.batch_size,
            "epochs": 1,
            "data": "noise",
            "validation": "none",
            "log_every": args.steps,
            "precision": "fp32",
        }
    )
    dataset = InMemory(args.batch_size * args.steps)
    with mock.patch.object(people, "open_dataset", lambda *_, **__: dataset), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = bare(config, dataset, args.steps)
        next(alone), zoo_train(config, folder)  # warm-up
        rounds = [(next(alone), *zoo_train(config, folder)) for _ in range(args.rounds)]
        stall = checkpoint_stall(config, dataset, folder, args.rounds)
    bare_rate, loop_rate, waiting = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(loop_rate / bare_rate for bare_rate, loop_rate, _ in rounds)
    table = Table(
        title=f"{args.backbone}, {args.stem} stem, batch {args.batch_size}, {torch.get_num_threads()} threads"
    )
    for heading in ("", "images/s", "of bare", "waiting for data"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("bare forward, backward, step", f"{bare_rate:.1f}", "1.00", "")
    table.add_row("zoo train", f"{loop_rate:.1f}", f"{ratio:.2f}", f"{waiting:.1%}")
    Console().print(table)
    table = Table(title=f"checkpoint of {stall.size / 2**20:.0f} MiB")
    for heading in ("", "seconds", "of bare"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, figure in (
        ("bare write and fsync", stall.bare),
        ("training waits", stall.waiting),
        ("steps take longer, the waiting included", stall.slower),
        ("until it is whole, without steps beside it", stall.writing),
    ):
        table.add_row(name, f"{figure:.3f}", f"{figure / stall.bare:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
