"""Steps that are not finite: named, or withheld without a trace."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import start, tiny
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.train.loop import train
from zoo.train.nonfinite import NonfiniteSteps


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
