"""A tiny run that trains in a second, and a way to run it in processes that can be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from zoo.train.config import TrainConfig, build, save_config

TINY: dict[str, Any] = {
    "backbone": "test_resnet",
    "data": "synthetic:5x7",
    "validation": "none",
    "embedding_dim": 9,
    "stem": "stock",
    "neck": "gap",
    "epochs": 3,
    "batch_size": 5,
    "lr": 0.05,
    "threads": 1,
    "workers": 0,
    "log_every": 3,
    "head_options": {"scale": 16.0},
}
"""35 images, 7 steps an epoch, 21 in all, by timm's smallest residual network."""


def tiny(**options: Any) -> TrainConfig:
    """The tiny run with some options replaced."""
    return build({**TINY, **options})


def start(config: TrainConfig, run: Path) -> Path:
    """Makes the run folder as `zoo train` does."""
    run.mkdir(parents=True)
    save_config(config, run / "config.yaml")
    return run


def weights(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The trained weights of a run."""
    return dict(load_file(run / "model.safetensors"))


def fit(config: TrainConfig, run: Path, resume: bool, die_after_seconds: float | None = None) -> None:
    """Trains in this process; with `die_after_seconds` a SIGKILL comes from a thread after that time."""
    from zoo.train.loop import train

    if die_after_seconds is not None:
        threading.Timer(die_after_seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    train(config, run, resume=resume, quiet=True)
    os._exit(0)  # the timer may still wait


def in_process(config: TrainConfig, run: Path, resume: bool = False, die_after_seconds: float | None = None) -> int:
    """`fit` in a process forked from one that has imported everything; its exit code, negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.train.loop", "zoo.train.checkpoint"])
    process = context.Process(target=fit, args=(config, run, resume, die_after_seconds))
    process.start()
    process.join(timeout=120)
    assert process.exitcode is not None, "the run hung"
    return process.exitcode
