"""What mends a run is written down once, with the step; all else is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.training import start, tiny
from zoo.train.config import load_config
from zoo.train.history import note_changes, note_machine
from zoo.train.loop import train


def test_each_change_is_a_line_and_what_holds_stands_in_the_options(tmp_path: Path) -> None:
    run = start(tiny(), tmp_path / "run")
    note_changes(run, tiny(log_every=7), 3)
    assert not (run / "history.jsonl").exists()
    note_changes(run, tiny(lr=0.5, log_every=7), 3)
    note_changes(run, tiny(lr=0.25, skip_nonfinite=2), 9)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["changed"]) for line in lines] == [
        (3, {"lr": [0.05, 0.5]}),
        (9, {"lr": [0.5, 0.25], "skip_nonfinite": [0, 2]}),
    ]
    assert load_config(run / "config.yaml") == tiny(lr=0.25, skip_nonfinite=2)


def test_a_resume_on_another_machine_says_what_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, config = start(tiny(epochs=1), tmp_path / "run"), tiny(epochs=1)
    train(config, run)
    train(config, run, resume=True)
    assert not [line for line in caplog.messages if "resumed with" in line], "nothing differs"
    known = json.loads((run / "machine.json").read_text())
    (run / "machine.json").write_text(json.dumps({**known, "device": "cuda", "precision": "bf16"}))
    train(config, run, resume=True)
    assert (
        "resumed with device cpu in place of cuda, precision fp32 in place of bf16: the weights will not be those of an"
        " uninterrupted run" in caplog.messages
    )
    assert json.loads((run / "machine.json").read_text()) == known


def test_a_resume_on_a_gpu_says_what_makes_it_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    card = torch.device("cuda")
    assert note_machine(tmp_path, tiny(), card, 2, resume=False) == []
    (sentence,) = note_machine(tmp_path, tiny(), card, 2, resume=True)
    assert sentence.startswith("a run on a GPU repeats bit for bit only with --deterministic")
    assert note_machine(tmp_path, tiny(deterministic=True), card, 2, resume=True) == []
