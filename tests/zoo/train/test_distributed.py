"""Runs of two processes under torchrun's agent, killed at random moments and resumed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import ReduceOp
from torch.distributed.checkpoint import FileSystemReader

from tests.support.training import (
    FP64,
    in_ranks,
    on_two_machines,
    same_weights,
    signalled,
    start,
    tiny,
    torchrun,
    weights,
)
from zoo.errors import InputError
from zoo.train import checkpoint
from zoo.train.build import choose_device
from zoo.train.config import TrainConfig, save_config
from zoo.train.distributed import Rank, everywhere, group, join, reduced, replicate, shard, share
from zoo.train.loop import train


def two_ranks(**options: Any) -> TrainConfig:
    """The tiny run at a batch that two processes share, with a checkpoint at each log line by the clock."""
    return tiny(batch_size=6, log_every=2, checkpoint_minutes=1e-6, keep=3, **options)


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


def kill_and_resume(pair: tuple[Path, float], folder: Path, seed: int, workers: int = 0) -> None:
    """Ends the run of two processes at a random moment, by SIGKILL, all of it or one rank, or by SIGTERM to all of it,
    resumes it and compares every byte."""
    run, seconds = pair
    config = two_ranks(workers=workers)
    trial = start(config, folder / f"killed-{seed}")
    moment = random.Random(seed).uniform(0.4, 1.0) * seconds
    number = signal.SIGTERM if seed % 4 > 1 else signal.SIGKILL
    in_ranks(config, trial, die_after_seconds=moment, victims="one" if seed % 4 == 1 else "all", number=number)
    can_resume = bool(checkpoint.steps(trial / "checkpoint"))
    assert in_ranks(config, trial, resume=can_resume) == 0
    assert same_weights(trial, run), f"seed {seed}, killed after {moment:.3f} s of {seconds:.3f} s"


@pytest.mark.parametrize("seed", range(2))
def test_two_ranks_killed_at_any_moment_and_resumed_end_bit_identical(
    pair: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(pair, tmp_path, seed)


def signalled_ranks(run: Path, number: signal.Signals) -> tuple[int, list[int]]:
    """Two ranks with two loader workers each get a signal, as torchrun does; the exit code and the steps saved."""
    code = signalled(tiny(batch_size=6, log_every=1, workers=2, checkpoint_every=99, keep=9), run, number, ranks=2)
    return code, [int(step.name[-2:]) for step in checkpoint.steps(run / "checkpoint")]


def test_sigterm_to_torchrun_and_all_that_it_started_saves_the_run(pair: tuple[Path, float], tmp_path: Path) -> None:
    code, (start_of_it, saved) = signalled_ranks(tmp_path / "run", signal.SIGTERM)
    assert code != 0 and start_of_it == 0 < saved < 15
    assert in_ranks(tiny(batch_size=6), tmp_path / "run", resume=True) == 0 and same_weights(tmp_path / "run", pair[0])


def test_sigusr1_saves_under_torchrun_and_the_run_goes_on(pair: tuple[Path, float], tmp_path: Path) -> None:
    """torchrun itself would end at it: docs/training.md has it ignore the signal, which its processes still hear."""
    code, saved = signalled_ranks(tmp_path / "run", signal.SIGUSR1)
    assert code == 0 and len(saved) == 3 and (saved[0], saved[2]) == (0, 15)
    assert same_weights(tmp_path / "run", pair[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_twenty_kills_of_two_ranks_end_bit_identical(pair: tuple[Path, float], tmp_path: Path, part: int) -> None:
    for seed in range(100 + 5 * part, 105 + 5 * part):
        kill_and_resume(pair, tmp_path, seed, workers=2)
        shutil.rmtree(tmp_path / f"killed-{seed}")


def two_machines(tmp_path: Path) -> list[Path]:
    """Two working folders with nothing in common."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        (folder / "run").mkdir(parents=True)
    return folders


def test_machines_without_a_common_file_system_are_told_so_at_the_start(tmp_path: Path) -> None:
    ends = on_two_machines(two_ranks(), Path("run"), two_machines(tmp_path))
    assert all("expected every process to see the run's folder run, found some on" in end for end in ends)
    assert not list(tmp_path.rglob("step-*"))


def test_machines_without_a_common_file_system_train_with_gather_and_resume(
    pair: tuple[Path, float], tmp_path: Path
) -> None:
    folders, config = two_machines(tmp_path), two_ranks(gather=True)
    assert on_two_machines(config, Path("run"), folders) == ["trained"] * 2
    kept = checkpoint.steps(folders[0] / "run/checkpoint")
    assert same_weights(folders[0] / "run", pair[0]) and [step.name[-2:] for step in kept] == ["12", "14", "15"]
    assert not list((folders[1] / "run").rglob("*.*"))
    for step in kept[1:]:
        shutil.rmtree(step)
    (folders[0] / "run/model.safetensors").unlink()
    save_config(config, folders[0] / "run/config.yaml")
    (folders[1] / "run/checkpoint/step-00000099").mkdir()  # what another run has left there
    assert on_two_machines(config, Path("run"), folders, resume=True) == ["trained"] * 2
    assert same_weights(folders[0] / "run", pair[0]) and not list((folders[1] / "run").rglob("*.*"))
    shutil.rmtree(folders[0] / "run/checkpoint")
    ends = on_two_machines(config, Path("run"), folders, resume=True)
    assert all("expected a whole checkpoint in run/checkpoint, found none" in end for end in ends)


def test_machines_with_other_data_are_told_so_at_the_start(tmp_path: Path) -> None:
    folders = two_machines(tmp_path)
    config = tiny(batch_size=6, data="list.txt")
    (tmp_path / "run").mkdir()
    for number, folder in enumerate(folders):
        (folder / "list.txt").write_text("".join(f"{i}.jpg {(i + number) % 5}\n" for i in range(35)))
    ends = on_two_machines(config, tmp_path / "run", folders)
    assert all("expected the same training set on every process, found people" in end for end in ends), ends
    (folders[1] / "list.txt").unlink()
    ends = on_two_machines(config, tmp_path / "run", folders)
    assert all(end.startswith("process 1: expected a folder of identities") for end in ends), ends


def test_a_process_that_is_stuck_is_named(tmp_path: Path) -> None:
    config = tiny(batch_size=6, epochs=99, patience_minutes=0.05)
    folder = tmp_path / "one"
    (folder / "run").mkdir(parents=True)
    (folder / "told").mkdir()
    first, _ = on_two_machines(config, folder / "run", [folder, folder], stop=True)
    assert "found process 1 stopped or stuck for 0.05 minutes, and process 0 waiting" in first


def losses(run: Path) -> list[float]:
    """The losses in a run's log."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


SHARDED = {"fsdp": True, "optimizer": "adamw", "lr": 1e-3, "batch_size": 8, "accumulate": 2}


@pytest.mark.parametrize("more", [{}, SHARDED], ids=["replicated", "sharded"])
def test_two_processes_train_as_one_and_resume_as_one(tmp_path: Path, more: dict[str, Any]) -> None:
    """The loss curve and the weights of two gloo processes are those of one; one goes on where two stopped."""
    config = tiny(**{**FP64, **more}, epochs=2, log_every=1, clip_norm=3.0, checkpoint_every=3, keep=9)
    one, two = start(config, tmp_path / "runs/one"), tmp_path / "runs/two"
    train(config, one)
    done = torchrun(config, two, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(losses(one)) == 2 * (35 // config.batch_size) and done.stdout.count("trained runs/two") == 1
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-9)
    newest = checkpoint.steps(two / "checkpoint")[-1]
    saved = FileSystemReader(newest).read_metadata().state_dict_metadata
    parts = {len(entry.chunks) for name, entry in saved.items() if name.startswith("model.") and entry.size.numel() > 1}
    assert parts == ({2} if more else {1})
    for name, mine in weights(one).items():
        np.testing.assert_allclose(weights(two)[name], mine, atol=1e-12)
    for step in checkpoint.steps(two / "checkpoint")[2:]:
        shutil.rmtree(step)
    train(config, two, resume=True)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-9)


def test_a_model_without_blocks_is_not_sharded() -> None:
    with pytest.raises(InputError, match="expected a transformer for --fsdp"):
        shard(torch.nn.Linear(3, 5), torch.device("cpu"))


def test_a_batch_is_shared_evenly_or_refused() -> None:
    assert share(64, accumulate=2, world=4) == 8
    with pytest.raises(InputError, match="divisible by 3 processes × accumulate=2, found 64"):
        share(64, accumulate=2, world=3)
    with pytest.raises(InputError, match="at least 2 images in a forward pass"):
        share(4, accumulate=2, world=2)


@pytest.mark.parametrize(("gpus", "backend", "places"), [(2, "nccl", [0, 1]), (1, "gloo", [0, 0])])
def test_processes_that_share_a_gpu_talk_by_gloo(
    gpus: int, backend: str, places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL refuses two processes on one GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    joined: list[object] = []
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr("zoo.train.distributed.dist.init_process_group", lambda name, timeout: joined.append(name))
    monkeypatch.setattr("zoo.train.distributed.dist.destroy_process_group", lambda: None)
    for local, place in enumerate(places):
        for name, value in {"RANK": local, "WORLD_SIZE": 2, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        with join(torch.device("cuda")) as rank:
            assert choose_device(tiny(), rank.local) == torch.device("cuda", place)
        assert joined == [place, backend]
        joined.clear()


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for world in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if world:
            monkeypatch.setenv("WORLD_SIZE", world)
        with join(torch.device("cpu")) as rank:
            assert rank == Rank() and rank.first and group() is None
            assert (everywhere("run", rank), reduced(15, ReduceOp.MAX, rank, torch.device("cpu"))) == ("run", 15)
            model = torch.nn.Linear(3, 5)
            assert replicate(model, rank, torch.device("cpu")) is model
    assert not Rank(number=1, world=2).first
