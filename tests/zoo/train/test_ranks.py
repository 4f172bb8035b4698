"""Runs of two processes under torchrun's agent, killed at random moments and resumed."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.support.training import in_ranks, start, tiny, weights
from zoo.train import checkpoint
from zoo.train.config import TrainConfig


def two_ranks() -> TrainConfig:
    """The tiny run at a batch that two processes share, with a checkpoint at each log line by the clock."""
    return tiny(batch_size=6, log_every=2, checkpoint_minutes=1e-6, keep=3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted run of two processes, and the seconds that it took."""
    run = start(two_ranks(), tmp_path_factory.mktemp("runs") / "pair")
    began = time.monotonic()
    assert in_ranks(two_ranks(), run) == 0
    return run, time.monotonic() - began


def test_ranks_agree_on_checkpoints_by_the_clock_of_the_first(pair: tuple[Path, float]) -> None:
    run, _ = pair
    # 35 images in batches of 6 are 5 steps an epoch: log lines after every second step and at an epoch's end
    assert [step.name[-2:] for step in checkpoint.steps(run / "checkpoint")] == ["12", "14", "15"]


def kill_and_resume(pair: tuple[Path, float], folder: Path, seed: int) -> None:
    """Kills the run of two processes at a random moment, all of it or one rank, resumes it and compares every byte."""
    run, seconds = pair
    trial = start(two_ranks(), folder / f"killed-{seed}")
    moment = random.Random(seed).uniform(0.4, 1.0) * seconds
    in_ranks(two_ranks(), trial, die_after_seconds=moment, victims=("all", "one")[seed % 2])
    can_resume = bool(checkpoint.steps(trial / "checkpoint"))
    assert in_ranks(two_ranks(), trial, resume=can_resume) == 0
    mine, theirs = weights(trial), weights(run)
    assert mine.keys() == theirs.keys()
    different = [name for name in mine if mine[name].tobytes() != theirs[name].tobytes()]
    assert not different, f"seed {seed}, killed after {moment:.3f} s of {seconds:.3f} s: {different}"


@pytest.mark.parametrize("seed", range(2))
def test_two_ranks_killed_at_any_moment_and_resumed_end_bit_identical(
    pair: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(pair, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_kills_of_two_ranks_end_bit_identical(pair: tuple[Path, float], tmp_path: Path) -> None:
    for seed in range(100, 120):
        kill_and_resume(pair, tmp_path, seed)
        shutil.rmtree(tmp_path / f"killed-{seed}")
