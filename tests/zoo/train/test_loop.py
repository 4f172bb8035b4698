"""The training loop: what it writes, that it resumes exactly, and how it answers faults."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import in_process, same_weights, start, tiny
from zoo.train import checkpoint
from zoo.train.config import build
from zoo.train.loop import train
from zoo.train.start import Interrupted, Stop
from zoo.train.typed import load_recipe, recipes


def test_a_run_writes_its_log_its_checkpoints_and_a_model_that_timm_loads(whole: tuple[Path, float]) -> None:
    from zoo.backbones import load_timm

    run, _ = whole
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7, 9, 12, 14, 15, 18, 21]
    assert {"loss", "lr", "t", "mean_target_cosine", "images_per_second", "data_wait"} <= lines[-1].keys()
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert [path.name for path in checkpoint.steps(run / "checkpoint")] == ["step-00000014", "step-00000021"]
    assert (run / "checkpoint/latest").read_text().strip() == "step-00000021"
    assert load_timm(run).eval()(torch.zeros(2, 3, 112, 112)).shape == (2, 9)
    assert not list(run.rglob("*.tmp")) and not list(run.rglob(".*model*"))


def kill_and_resume(whole: tuple[Path, float], folder: Path, seed: int, workers: int = 0) -> None:
    """Ends the tiny run at a random moment, by SIGKILL or SIGTERM, resumes it, and compares every byte."""
    run, seconds = whole
    config = tiny(checkpoint_every=2, workers=workers)
    trial = start(config, folder / f"killed-{seed}")
    moment = random.Random(seed).uniform(0.1, 1.0) * seconds
    number = (signal.SIGKILL, signal.SIGTERM)[seed % 2]
    first = in_process(config, trial, die_after_seconds=moment, number=number)
    assert first in (0, -number, 128 + number)
    can_resume = bool(checkpoint.steps(trial / "checkpoint"))
    assert in_process(config, trial, resume=can_resume) == 0
    assert same_weights(trial, run), f"seed {seed}, killed after {moment:.3f} s"


@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_any_moment_and_resumed_ends_bit_identical(
    whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(whole, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_two_hundred_kills_with_loader_workers_end_bit_identical(
    whole: tuple[Path, float], tmp_path: Path, part: int
) -> None:
    for seed in range(100 + 20 * part, 120 + 20 * part):
        kill_and_resume(whole, tmp_path, seed, workers=2)
        shutil.rmtree(tmp_path / f"killed-{seed}")


def test_another_seed_ends_elsewhere(whole: tuple[Path, float], tmp_path: Path) -> None:
    other = start(tiny(seed=1), tmp_path / "other")
    assert in_process(tiny(seed=1), other) == 0
    assert not same_weights(other, whole[0])


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "lr": 1e-3},
        {"ema": 0.9, "clip_norm": 1.0},
        {"accumulate": 2, "batch_size": 4, "schedule": "cosine", "warmup_epochs": 1},
        {"precision": "bf16", "neck": "flat", "dropout": 0.2},
        {"channels_last": True, "head": "arcface"},
        {"centres": {"sample_rate": 0.4, "sub_centres": 2}, "head": "adaface"},
    ],
    ids=str,
)
def test_an_interrupted_run_resumes_exactly_with_every_option(tmp_path: Path, options: dict[str, Any]) -> None:
    config = tiny(**options, epochs=2, checkpoint_every=4)
    through = start(config, tmp_path / "through")
    train(config, through)
    resumed = start(config, tmp_path / "resumed")
    shutil.copytree(through / "checkpoint/step-00000012", resumed / "checkpoint/step-00000012")
    train(config, resumed, resume=True)
    assert same_weights(through, resumed)


@pytest.mark.parametrize("name", recipes())
def test_every_packaged_recipe_builds_and_steps_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe as it is but for its data, at a batch of 4 and with a short embedding; SIGTERM ends its first step."""
    monkeypatch.setattr("zoo.train.loop.stop_signals", stopped_at_once)
    small = {"data": "synthetic:3x5", "validation": "none", "batch_size": 4, "embedding_dim": 5, "threads": 1}
    config = build({**load_recipe(name), **small, "device": "cpu", "workers": 0})
    run = start(config, tmp_path / "run")
    with pytest.raises(Interrupted, match="after step 1;"):
        train(config, run)
    (line,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert line["step"] == 1 and np.isfinite(line["loss"])
    assert line["lr"] == pytest.approx(config.lr / 100 if config.warmup_epochs else config.lr)
    assert [step.name for step in checkpoint.steps(run / "checkpoint")] == ["step-00000000", "step-00000001"]


@contextlib.contextmanager
def stopped_at_once() -> Iterator[Stop]:
    """In the place of `stop_signals`: a SIGTERM that came before the first step."""
    stop = Stop()
    stop.asked = signal.SIGTERM + 1
    yield stop


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_demos_recipe_learns_to_tell_drawn_people_apart_that_it_never_saw(tmp_path: Path) -> None:
    from zoo.backbones import load_timm
    from zoo.backbones.timm_folder import TorchEmbedder
    from zoo.data.synthetic import synthetic_pairs
    from zoo.evaluate.protocols.pairs import PairsProtocol
    from zoo.inference.embed import embed
    from zoo.modelinfo import InputSpec

    config = build(load_recipe("quick-cpu"))
    run = start(config, tmp_path / "run")
    train(config, run)
    protocol = PairsProtocol(*synthetic_pairs())
    assert protocol.score(embed(TorchEmbedder(load_timm(run), InputSpec()), protocol.images())).auc > 0.95
