"""A step is the same however its batch is divided, and draws anew in every pass."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.far_device import FAR, forbid_copies
from tests.support.training import FP64, same_weights, start, tiny, weights
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.train import checkpoint
from zoo.train.build import build as parts_of
from zoo.train.checkpoint import CRITERION, read
from zoo.train.distributed import Rank
from zoo.train.loop import train
from zoo.train.step import NonfiniteSteps, Stepper, dropout_seed


def test_passes_that_share_a_step_move_the_weights_as_one_pass_does(tmp_path: Path) -> None:
    whole, shared, other = (
        tiny(**{**FP64, "head": "arcface", **more}, epochs=1, data="synthetic:5x6")
        for more in ({}, {"accumulate": 3}, {"batch_size": 3})
    )
    runs = [start(config, tmp_path / str(number)) for number, config in enumerate((whole, shared, other))]
    for config, run in zip((whole, shared, other), runs, strict=True):
        train(config, run)
    one, three, half = map(weights, runs)
    assert all(np.allclose(one[name], three[name], rtol=1e-9, atol=1e-12) for name in one)
    assert any(not np.allclose(one[name], half[name], rtol=1e-9, atol=1e-12) for name in one)  # the twin: other steps


@pytest.mark.parametrize(("head", "none", "whole"), [("arcface", 0, 0.5), ("sphereface", 1, 1.5)])
def test_the_margin_grows_step_by_step_to_its_value(
    head: str, none: float, whole: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    backward = Stepper.backward

    def noted(self: Stepper, *args: Any) -> Any:
        seen.append(self.training.criterion.head.margin)
        return backward(self, *args)

    monkeypatch.setattr(Stepper, "backward", noted)
    config = tiny(head=head, epochs=2, margin_epochs=0.5)
    train(config, start(config, tmp_path / "run"))
    steps = round(0.5 * len(seen) / 2)
    assert seen == pytest.approx([none + (whole - none) * min(step / steps, 1) for step in range(len(seen))])


def test_a_head_without_a_margin_has_none_that_grows(tmp_path: Path) -> None:
    config = tiny(head="softmax", margin_epochs=1)
    with pytest.raises(InputError, match="a head with a margin for --margin-epochs, found softmax"):
        train(config, start(config, tmp_path / "run"))


def test_what_a_head_learns_is_trained_and_resumed(tmp_path: Path) -> None:
    config = tiny(head="uniface", epochs=2)
    whole = start(config, tmp_path / "whole")
    train(config, whole)
    folders = checkpoint.steps(whole / "checkpoint")
    first, last = (read(folder, CRITERION)["head.bias"] for folder in folders)
    assert first != last
    parts = start(config, tmp_path / "parts")
    shutil.copytree(folders[0], parts / "checkpoint" / folders[0].name)
    (parts / "checkpoint/latest").write_text(folders[0].name)
    train(config, parts, resume=True)
    assert read(checkpoint.steps(parts / "checkpoint")[-1], CRITERION)["head.bias"] == last


def test_frozen_batch_norms_keep_their_statistics_and_every_other_one_moves(tmp_path: Path) -> None:
    config = tiny(epochs=1, freeze=["body.bn1"])
    run = start(config, tmp_path / "run")
    train(config, run)
    means = {name: mean for name, mean in weights(run).items() if name.endswith("running_mean")}
    still = [name for name, mean in means.items() if not mean.any()]  # they begin at zero
    assert still == ["body.bn1.running_mean"]
    assert any(name.startswith("neck.") for name in means)  # its last norm has a fixed scale and is not frozen


def test_every_pass_of_every_process_draws_its_own() -> None:
    seeds = {dropout_seed(seed, number, rank) for seed in range(5) for number in range(500) for rank in range(8)}
    assert len(seeds) == 5 * 500 * 8
    assert dropout_seed(1, 2, 3) == (1_000_003 + 2) * 65_537 + 3  # what runs of today resume with


def test_pictures_mirrored_on_the_device_are_those_that_the_loader_mirrors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half of a run, begun within an epoch, is mirrored on the device: the weights end the same."""

    def run(name: str, on_device: bool, **options: Any) -> Path:
        for module in ("build", "step"):
            monkeypatch.setattr(f"zoo.train.{module}.flips_on_device", lambda *_: on_device)
        config, folder = tiny(epochs=2, checkpoint_every=3, keep=9, **options), tmp_path / name
        resumed = folder.is_dir()
        train(config, folder if resumed else start(config, folder), resume=resumed)
        return folder

    whole = run("whole", False)
    part = start(tiny(), tmp_path / "part")
    early = checkpoint.steps(whole / "checkpoint")[1]
    assert early.name == "step-00000003"
    shutil.copytree(early, part / "checkpoint" / early.name)
    assert same_weights(whole, run("part", True))
    assert not same_weights(whole, run("other", False, augment="none"))


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adamw", "clip_norm": 1.0}, {"head": "adaface", "accumulate": 5}]
)
def test_a_step_neither_reads_from_the_device_nor_copies_to_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would make the host wait for either, and the card then for the host; only `prepare` copies, ahead."""
    config = tiny(**options)
    training = parts_of(config, 5, FAR)
    training.criterion._watch.started = True
    monkeypatch.setattr(training.optimizer, "step", lambda: None)  # torch's fused step knows no meta device
    step = Stepper(config, training, Rank(), FAR)
    crops, labels = torch.zeros(5, 112, 112, 3, dtype=torch.uint8), torch.arange(5)
    batches = [step.prepare((crops, labels, labels), epoch=0) for _ in range(2 * config.accumulate)]
    with forbid_copies(monkeypatch):
        for number in range(2):
            step(iter(batches), number)
        with pytest.raises(AssertionError, match="copies from the host"):
            step.prepare((crops, labels, labels), epoch=0)


def test_cuda_graphs_are_asked_of_the_compiler_and_announced_before_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str | None] = []
    begun: list[int] = []

    def compile_model(model: torch.nn.Module, mode: str | None) -> torch.nn.Module:
        modes.append(mode)
        return model

    monkeypatch.setattr(torch, "compile", compile_model)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    device = torch.device("cpu")
    for options, marks in (({"compile": True, "cuda_graphs": True}, 2), ({"compile": True}, 0)):
        config = tiny(**options)
        step = Stepper(config, parts_of(config, 5, device), Rank(), device)
        crops, labels = torch.zeros(5, 112, 112, 3, dtype=torch.uint8), torch.arange(5)
        for number in range(2):
            step(iter([step.prepare((crops, labels, labels), epoch=0)]), number)
        assert len(begun) == marks
        begun.clear()
    assert modes == ["reduce-overhead", None]
    for options in ({"cuda_graphs": True}, {"cuda_graphs": True, "compile": True, "accumulate": 5}):
        with pytest.raises(InputError, match="--cuda-graphs to be false without --compile and where --accumulate"):
            tiny(**options)


def test_a_scaled_fp16_run_goes_on_exactly_and_backs_off_where_any_process_overflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, where torch has the scaler too."""
    monkeypatch.setattr("zoo.train.loop.choose_device", lambda *_: torch.device("cpu"))
    config = tiny(precision="fp16", epochs=2, head_epochs=0.3, checkpoint_every=3, keep=9)
    whole, part = (start(config, tmp_path / name) for name in ("whole", "part"))
    train(config, whole)
    early = checkpoint.steps(whole / "checkpoint")[1]
    shutil.copytree(early, part / "checkpoint" / early.name)
    train(config, part, resume=True)
    assert same_weights(whole, part)

    training = parts_of(config, 5, torch.device("cpu"))
    step = Stepper(config, training, Rank(), torch.device("cpu"))
    crops, labels = torch.zeros(5, 112, 112, 3, dtype=torch.uint8), torch.arange(5)
    scales = []
    for norm in (1.0, float("inf")):
        monkeypatch.setattr("zoo.train.step.clip_grad_norm", lambda *_, norm=norm: torch.tensor(norm))
        step(iter([step.prepare((crops, labels, labels), epoch=0)]), 9)
        scales.append(training.scaler.get_scale())
    assert scales == [2.0**16, 2.0**15]


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


def test_the_first_bad_step_is_named_though_it_was_tolerated_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log lines are written after steps 3 and 6; the run stops at the second one."""
    poison(monkeypatch, at_step=1)
    poison(monkeypatch, at_step=4)
    config = tiny(skip_nonfinite=1, on_corrupt="error", epochs=1)
    run = start(config, tmp_path / "run")
    with pytest.raises(InputError, match=r"found 2 step\(s\) without, the first after step 1 \(samples \d+"):
        train(config, run)
    again = NonfiniteSteps(0, torch.device("cpu"), bad_steps=2)
    with pytest.raises(InputError, match=r"found 2 step\(s\) without, all before the run was resumed"):
        again.judge(open_dataset(config.data))


def test_a_tolerated_non_finite_step_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights after a withheld first step are those before it, batch norm's and the head's state too."""
    from zoo.train.build import build as parts_of

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
