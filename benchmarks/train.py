"""What the training loop costs beside the arithmetic: `zoo train` against the bare forward, backward and step.

    python benchmarks/train.py [--backbone resnet18] [--stem stock] [--batch-size 32] [--steps 12] [--rounds 5]

Both sides train the same backbone with the same dense centres for 941 classes on the same pictures in memory, in turn,
in one process. The table gives medians over the rounds, the ratio, and the share of a step spent waiting for data; then
how long a checkpoint stalls training against a bare write and fsync of as many bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from zoo.spec import InputSpec
from zoo.train import checkpoint, loop
from zoo.train.config import TrainConfig, build, save_config
from zoo.train.embedder import normalise

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


def bare(config: TrainConfig, dataset: InMemory, steps: int) -> Iterator[float]:
    """Images a second of forward, backward and step alone, a figure a round, for ever."""
    training = loop.build(config, CLASSES, torch.device("cpu"))
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
    result = loop.train(config, run, quiet=True)
    return result["images_per_second"], result["data_wait"]


def checkpoint_stall(config: TrainConfig, folder: Path, rounds: int) -> tuple[float, float, int]:
    """Median seconds of a checkpoint, of a bare write and fsync of as many bytes, and the bytes."""
    training = loop.build(config, CLASSES, torch.device("cpu"))
    ours, theirs, size = [], [], 0
    for number in range(rounds):
        before = time.perf_counter()
        saved = checkpoint.save(training.state(), folder / "checkpoint", number, keep=1)
        ours.append(time.perf_counter() - before)
        size = sum(file.stat().st_size for file in saved.iterdir())
        content = os.urandom(1 << 20) * (size >> 20)
        before = time.perf_counter()
        with open(folder / "bare", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        theirs.append(time.perf_counter() - before)
    return statistics.median(ours), statistics.median(theirs), size


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
        }
    )
    dataset = InMemory(args.batch_size * args.steps)
    loop.open_dataset = lambda *_, **__: dataset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = bare(config, dataset, args.steps)
        next(alone), zoo_train(config, folder)  # warm-up
        rounds = [(next(alone), *zoo_train(config, folder)) for _ in range(args.rounds)]
        stall, write, size = checkpoint_stall(config, folder, args.rounds)
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
    print(
        f"checkpoint of {size / 2**20:.0f} MiB: {stall:.2f} s; bare write and fsync: {write:.2f} s;"
        f" ratio {stall / write:.2f}"
    )


if __name__ == "__main__":
    main()
