"""The training loop: what it writes, that it resumes exactly, and how it answers faults."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import TINY, in_process, start, tiny, weights
from zoo import runs
from zoo.errors import InputError
from zoo.train import checkpoint
from zoo.train.config import TrainConfig, build, load_recipe, recipes, save_config
from zoo.train.loop import train
from zoo.train.signals import Interrupted, Stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted tiny run in a process of its own, and the seconds that it took."""
    run = start(tiny(), tmp_path_factory.mktemp("runs") / "whole")
    in_process(tiny(epochs=1), start(tiny(epochs=1), run.parent / "warm-up"))
    began = time.monotonic()
    assert in_process(tiny(), run) == 0
    return run, time.monotonic() - began


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


def same_weights(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bytes in every weight and every class centre."""
    mine, theirs = weights(run), weights(other)
    return mine.keys() == theirs.keys() and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


def kill_and_resume(whole: tuple[Path, float], folder: Path, seed: int) -> None:
    """Kills the tiny run at a random moment, resumes it until it ends, and compares every byte."""
    run, seconds = whole
    config = tiny(checkpoint_every=2)
    trial = start(config, folder / f"killed-{seed}")
    moment = random.Random(seed).uniform(0.1, 1.0) * seconds
    first = in_process(config, trial, die_after_seconds=moment)
    assert first in (0, -signal.SIGKILL)
    can_resume = bool(checkpoint.steps(trial / "checkpoint"))
    assert in_process(config, trial, resume=can_resume) == 0
    assert same_weights(trial, run), f"seed {seed}, killed after {moment:.3f} s"


@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_any_moment_and_resumed_ends_bit_identical(
    whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(whole, tmp_path, seed)


@pytest.mark.soak
def test_two_hundred_kills_end_bit_identical(whole: tuple[Path, float], tmp_path: Path) -> None:
    for seed in range(100, 300):
        kill_and_resume(whole, tmp_path, seed)
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


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    whole: tuple[Path, float], tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    harm(next((run / "checkpoint/step-00000021").glob("*.distcp")))
    train(tiny(), run, resume=True)
    assert "step-00000021 is damaged (__0_0.distcp" in caplog.text
    assert same_weights(run, whole[0])


def test_no_whole_checkpoint_is_a_sentence(whole: tuple[Path, float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    for step in checkpoint.steps(run / "checkpoint"):
        (step / "manifest.json").unlink()
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        train(tiny(), run, resume=True)


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(
    whole: tuple[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(whole[0] / "checkpoint", folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.train.checkpoint.os.rename", full)
    with pytest.raises(InputError, match="No space left"):
        checkpoint.save({"x": torch.zeros(3)}, folder, step=22, keep=1)
    assert [path.name for path in checkpoint.steps(folder)] == ["step-00000014", "step-00000021"]
    assert not list(folder.glob(".*.tmp"))
    state = {"progress": {"step": 0, "bad_steps": 0}}
    assert checkpoint.load(state, folder) == (21, []) and state["progress"]["step"] == 21


def poison(monkeypatch: pytest.MonkeyPatch, at_step: int) -> None:
    """Makes the loss of one step NaN."""
    from zoo.heads import MarginSoftmaxLoss

    original, calls = MarginSoftmaxLoss.forward, iter(range(10**6))

    def forward(self: Any, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if next(calls) == at_step:
            embeddings = embeddings * torch.nan
        loss: torch.Tensor = original(self, embeddings, labels)
        return loss

    monkeypatch.setattr(MarginSoftmaxLoss, "forward", forward)


def test_a_non_finite_step_stops_the_run_naming_step_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, at_step=4)
    with pytest.raises(InputError, match=r"the first after step 4 \(samples \d+"):
        train(tiny(), start(tiny(), tmp_path / "run"))


def test_a_tolerated_non_finite_step_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights after a withheld first step are those before it, batch norm's and the head's state too."""
    from zoo.train.build import build as parts_of
    from zoo.train.nonfinite import NonfiniteSteps

    states = []
    update = NonfiniteSteps.put_back

    def watch(self: Any, statistics: Any, withhold: torch.Tensor) -> None:
        update(self, statistics, withhold)
        states.append(bool(withhold))

    monkeypatch.setattr(NonfiniteSteps, "put_back", watch)
    config = tiny(epochs=1, skip_nonfinite=7, checkpoint_every=1, keep=99, data="synthetic:5x2", batch_size=5)
    torch.manual_seed(config.seed)
    before = parts_of(config, 5, torch.device("cpu")).state()
    poison(monkeypatch, at_step=0)
    run = start(config, tmp_path / "run")
    result = train(config, run)
    assert states == [True, False] and np.isfinite(result["loss"])
    shutil.rmtree(run / "checkpoint/step-00000002")
    after = parts_of(config, 5, torch.device("cpu"))
    assert after.restore(run / "checkpoint") == [] and after.progress == {"step": 1, "bad_steps": 1, "images": 10}
    for part in ("model", "criterion"):
        for name, tensor in after.state()[part].items():
            assert torch.equal(tensor, before[part][name]), name
    for optimizer in (after.optimizer, after.centre_optimizer):
        assert all(not state["momentum_buffer"].any() for state in optimizer.state.values())


def test_the_learning_rate_falls_at_the_papers_epochs() -> None:
    from zoo.train.optim import build_optimizer, build_schedule

    config = build({"epochs": 34, "lr": 0.1})
    optimizer = build_optimizer(config, torch.nn.Linear(3, 5))
    schedule = build_schedule(config, optimizer, steps_per_epoch=11)
    rates = []
    for step in range(34 * 11):
        schedule.step_update(step)
        rates.append(round(optimizer.param_groups[0]["lr"], 9))
    expected = [0.1 * 0.1 ** sum(epoch >= fall for fall in (20, 28, 32)) for epoch in range(34)]
    assert rates == [round(rate, 9) for rate in expected for _ in range(11)]


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
    assert [step.name for step in checkpoint.steps(run / "checkpoint")] == ["step-00000001"]


@contextlib.contextmanager
def stopped_at_once() -> Iterator[Stop]:
    """In the place of `stop_signals`: a SIGTERM that came before the first step."""
    stop = Stop()
    stop.received = signal.SIGTERM
    yield stop


def zoo(*words: str, cwd: Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zoo", *words], cwd=cwd, capture_output=True, text=True, timeout=120, **kwargs
    )


TINY_FLAGS = [f"--set={name}={value}" for name, value in TINY.items() if name != "head_options"]


def test_sigterm_saves_and_exits_143_and_resume_goes_on(tmp_path: Path) -> None:
    words = ["train", *TINY_FLAGS, "--set=epochs=200", "--name", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    metrics = tmp_path / "runs/run/metrics.jsonl"
    deadline = time.monotonic() + 100
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runs.is_being_written(tmp_path / "runs/run")
    second = zoo("train", "--resume", "run", cwd=tmp_path)
    assert second.returncode == 2 and f"is being written by process {process.pid}" in second.stderr
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and "stopped by SIGTERM after step" in out
    assert not runs.is_being_written(tmp_path / "runs/run")
    assert len(checkpoint.steps(tmp_path / "runs/run/checkpoint")) >= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "resnet81"], "resnet18"),
        (["train", "resnet18", "--head", "arcfase"], "did you mean arcface"),
        (["train", "resnet18", "--haed", "arcface"], "did you mean --head"),
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--resume"], "expected a run under runs/"),
        (["train", "--set", "lr"], "expected --set key=value"),
        (["train", "--data", "synthetic:5x7", "--batch-size", "36"], "36"),
        (["train", "--data", "synthetic:5x7", "--batch-size", "1"], "expected at least 2 images"),
        (["train", "--device", "cuda"], "found none that torch can use"),
        (["train", "--precision", "fp16", "--device", "cpu"], "use bf16"),
        (["train", "--skip-nonfinite", "0.5"], "expected --skip-nonfinite to be a whole number, found '0.5'"),
        (["train", "--init", "nowhere"], "nowhere"),
        (["train", "--epochs", "0"], "expected --epochs to be at least 1, found 0"),
        (["train", "--epochs", "5", "--set", "milestones=[2, 5]"], "epochs between 1 and 4, found [2, 5]"),
        (["train", "--recipe", "recuricularface-r18"], "no recipe is called 'recuricularface-r18'; did you mean"),
        (["train", "--recipe", "mine.yaml"], "expected a file of training options at mine.yaml, found none"),
        (["train", "--data", "synthetic:5x7", "--min-images", "3"], "expected no filter on the synthetic set"),
    ],
)
def test_wrong_input_exits_2_with_one_sentence_and_leaves_nothing(
    tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.cli import main

    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*"))


def test_unknown_centre_options_and_frozen_names_are_sentences(tmp_path: Path) -> None:
    from zoo.train.build import build as parts_of

    with pytest.raises(InputError, match="did you mean sample_rate"):
        parts_of(tiny(centres={"sample_rat": 0.1}), 5, torch.device("cpu"))
    with pytest.raises(InputError, match="no parameter is called 'bdoy'"):
        parts_of(tiny(freeze=["bdoy"]), 5, torch.device("cpu"))


def test_init_takes_the_weights_of_a_run_and_freeze_keeps_them(whole: tuple[Path, float], tmp_path: Path) -> None:
    config = tiny(init=str(whole[0]), freeze=["body.layer1", "body.conv1"], epochs=1, seed=3)
    run = start(config, tmp_path / "run")
    train(config, run)
    before, after = weights(whole[0]), weights(run)
    kept = [name for name in before if name.endswith("weight") and before[name].tobytes() == after[name].tobytes()]
    assert len(kept) > 5
    others = {name for name in kept if not name.startswith(("body.layer1", "body.conv1"))}
    assert others == {"neck.4.weight"}, "the scale of the last batch norm is 1 and never trained"
    with pytest.raises(InputError, match="expected --init weights of this backbone"):
        train(tiny(init=str(whole[0]), embedding_dim=11), start(config, tmp_path / "misfit"))


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


def losses(run: Path) -> list[float]:
    """The losses in a run's log."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_and_resume_as_one(tmp_path: Path) -> None:
    """The loss curve of two gloo processes is that of one at the same global batch; one goes on where two stopped."""
    config = tiny(**FP64, epochs=2, log_every=1, clip_norm=3.0, checkpoint_every=3, keep=9)
    one, two = start(config, tmp_path / "runs/one"), tmp_path / "runs/two"
    train(config, one)
    done = torchrun(config, two, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(losses(one)) == 10 and done.stdout.count("trained runs/two") == 1
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-9)
    for step in ("step-00000006", "step-00000009", "step-00000010"):
        shutil.rmtree(two / "checkpoint" / step)
    train(config, two, resume=True)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-9)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_demos_recipe_learns_to_tell_drawn_people_apart_that_it_never_saw(tmp_path: Path) -> None:
    from zoo.backbones import load_timm
    from zoo.backbones.torch_embedder import TorchEmbedder
    from zoo.data.synthetic import synthetic_pairs
    from zoo.evaluate.protocols.pairs import PairsProtocol
    from zoo.inference.embed import embed
    from zoo.modelinfo import InputSpec

    config = build(load_recipe("quick-cpu"))
    run = start(config, tmp_path / "run")
    train(config, run)
    protocol = PairsProtocol(*synthetic_pairs())
    assert protocol.score(embed(TorchEmbedder(load_timm(run), InputSpec()), protocol.images())).auc > 0.95
