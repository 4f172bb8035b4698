"""A tiny run that trains in a second, and a way to run it in processes that can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
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
    "precision": "fp32",
    "threads": 1,
    "workers": 0,
    "curves": False,
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


def fit(
    config: TrainConfig,
    run: Path,
    resume: bool,
    die_after_seconds: float | None = None,
    number: signal.Signals = signal.SIGKILL,
) -> None:
    """Trains in this process; with `die_after_seconds` a signal comes from a thread after that time."""
    from zoo.train.loop import train
    from zoo.train.start import Interrupted

    if die_after_seconds is not None:
        threading.Timer(die_after_seconds, os.kill, (os.getpid(), number)).start()
    try:
        train(config, run, resume=resume)
    except Interrupted as stop:
        os._exit(stop.exit_code)
    os._exit(0)  # the timer may still wait


def each_rank(config: TrainConfig, run: Path, resume: bool) -> None:
    """What each of torchrun's processes does."""
    from zoo.train.loop import train

    train(config, run, resume=resume)


def under_torchrun(config: TrainConfig, run: Path, resume: bool, processes: int) -> None:
    """Trains in so many processes of torchrun's own agent, which are forked from this one; all in one process group."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.setsid()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # as the script of docs/training.md does by trap '' USR1
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        max_restarts=0,  # torchrun's default, not this record's
        run_id=run.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        monitor_interval=0.05,
    )
    elastic_launch(launch, each_rank)(config, run, resume)


def in_ranks(
    config: TrainConfig,
    run: Path,
    resume: bool = False,
    die_after_seconds: float | None = None,
    victims: str = "all",
    processes: int = 2,
    number: signal.Signals = signal.SIGKILL,
) -> int:
    """`under_torchrun` in a process of its own; its exit code, negative for a signal.

    After `die_after_seconds` a signal comes to "all" processes at once, torchrun's agent too, or to "one" of the ranks.
    """
    process = fresh(under_torchrun, config, run, resume, processes)
    process.join(timeout=120 if die_after_seconds is None else die_after_seconds)
    if die_after_seconds is not None and process.is_alive():
        ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            if victims == "one" and ranks:
                os.kill(int(ranks[-1]), number)
            else:
                os.killpg(process.pid or 0, number)
        process.join(timeout=120)
    assert process.exitcode is not None, "the run hung"
    return process.exitcode


def fresh(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that does `work`, forked from one that has imported everything and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.train.loop", "zoo.train.checkpoint", "torch.distributed.launcher.api"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def in_process(
    config: TrainConfig,
    run: Path,
    resume: bool = False,
    die_after_seconds: float | None = None,
    number: signal.Signals = signal.SIGKILL,
) -> int:
    """`fit` in a process of its own; its exit code, negative for a signal that it did not hear."""
    process = fresh(fit, config, run, resume, die_after_seconds, number)
    process.join(timeout=120)
    assert process.exitcode is not None, "the run hung"
    return process.exitcode


def same_weights(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bytes in every weight and every class centre."""
    mine, theirs = weights(run), weights(other)
    return mine.keys() == theirs.keys() and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


FP64 = {"backbone": "test_vit", "neck": "native", "precision": "fp64", "head": "curricularface", "batch_size": 6}
"""A model without batch norm in double precision: one process and two compute the same sums."""


def torchrun(config: TrainConfig, run: Path, processes: int) -> subprocess.CompletedProcess[str]:
    """`zoo train` of the run's options under torchrun, with gloo on the CPU."""
    recipe = run.parent / "recipe.yaml"
    save_config(config, recipe)
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "zoo", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *words, "--recipe", str(recipe), "--name", run.name],
        cwd=run.parent.parent,
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )


def until_told(config: TrainConfig, run: Path, resume: bool) -> None:
    """Trains in a process group of its own; ends with the exit code of the signal that stopped the run."""
    from zoo.train.loop import train
    from zoo.train.start import Interrupted

    os.setsid()
    try:
        train(config, run, resume=resume)
    except Interrupted as stop:
        os._exit(stop.exit_code)
    os._exit(0)


def signalled(config: TrainConfig, run: Path, number: signal.Signals, ranks: int = 1) -> int:
    """Sends a signal to all processes of a new run, its loader's workers among them, after its first log line.

    With several `ranks`, torchrun's agent gets it too. Its exit code, negative for a signal that nobody heard.
    """
    start(config, run)
    process = fresh(under_torchrun, config, run, False, ranks) if ranks > 1 else fresh(until_told, config, run, False)
    metrics = run / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    os.killpg(process.pid or 0, number)
    process.join(timeout=120)
    assert process.exitcode is not None, "the run hung"
    return process.exitcode


def as_rank(number: int, port: int, folder: Path, config: TrainConfig, run: Path, told: Path, resume: bool) -> None:
    """One of two processes, as torchrun would start it on a machine of its own, whose working folder is `folder`."""
    from zoo.errors import InputError
    from zoo.train.loop import train

    os.environ.update(RANK=str(number), WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    os.chdir(folder)
    try:
        train(config, run, resume=resume)
        told.write_text("trained")
    except InputError as error:
        told.write_text(str(error))
    os._exit(0)


def on_two_machines(
    config: TrainConfig, run: Path, folders: list[Path], stop: bool = False, resume: bool = False
) -> list[str]:
    """Trains in two processes, each in its folder; what each ends with. With `stop`, the second one is stopped by
    SIGSTOP after the first log line, and its end is ""."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = [folder / f"told-{number}" for number, folder in enumerate(folders)]
    given = [(number, port, folder, config, run, told[number], resume) for number, folder in enumerate(folders)]
    ranks = [fresh(as_rank, *one) for one in given]
    metrics = folders[0] / run / "metrics.jsonl"
    while stop and ranks[0].is_alive() and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    if stop:
        os.kill(ranks[1].pid or 0, signal.SIGSTOP)
    for rank in ranks[: 1 if stop else 2]:
        rank.join(timeout=120)
        assert rank.exitcode == 0, "a process hung or failed"
    if stop:
        os.kill(ranks[1].pid or 0, signal.SIGKILL)
        ranks[1].join()
    return [file.read_text() if file.exists() else "" for file in told]
