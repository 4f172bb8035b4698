"""What people watch of a run: metrics.jsonl, TensorBoard, the page of curves, and counts of skipped images."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import start, tiny
from zoo.errors import InputError
from zoo.train.config import load_config
from zoo.train.log import LOGGERS, MetricsFile, note_changes, note_machine, page, write_curves
from zoo.train.loop import train


def lines(run: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with TensorBoard and curves that was resumed from the middle of an epoch, after its end."""
    run = tmp_path_factory.mktemp("runs") / "watched"
    config = tiny(epochs=2, log="tensorboard", curves=True, checkpoint_every=5, keep=9)
    train(config, start(config, run))
    for step in ("step-00000014", "step-00000010"):
        shutil.rmtree(run / "checkpoint" / step)
    train(config, run, resume=True)
    return run


def test_a_resumed_run_has_each_line_once(watched: Path) -> None:
    assert [line["step"] for line in lines(watched)] == [3, 5, 6, 7, 9, 10, 12, 14]
    times = [line["time"] for line in lines(watched)]
    assert times == sorted(times)


def test_tensorboard_shows_each_line_of_the_log_once(watched: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert len(list((watched / "tensorboard").iterdir())) == 1
    board = accumulator.EventAccumulator(str(watched / "tensorboard"))
    board.Reload()
    expected = {
        "train/epoch",
        "train/lr",
        "train/loss",
        "train/t",
        "train/mean_target_cosine",
        "train/hard_negative_share",
        "train/embedding_norm",
        "train/images_per_second",
        "train/data_wait",
    }
    assert expected <= set(board.Tags()["scalars"])
    for name in expected:
        shown = [(event.step, event.value) for event in board.Scalars(name)]
        key = name.removeprefix("train/")
        assert shown == [(line["step"], pytest.approx(line[key], rel=1e-6)) for line in lines(watched)]


def test_tensorboard_shows_the_validation_and_no_nulls(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = MetricsFile(tmp_path / "metrics.jsonl", resume_at=0, logger=LOGGERS["tensorboard"](tmp_path, {}))
    metrics.write({"step": 7, "loss": float("nan"), "lr": 0.5})
    metrics.write({"step": 7, "epoch": 1, "validation": {"accuracy": 0.75, "auc": 0.875}})
    metrics.close()
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"train/lr", "train/epoch", "validation/accuracy", "validation/auc"}
    (event,) = board.Scalars("validation/auc")
    assert (event.step, event.value) == (7, 0.875)


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_that_is_not_installed_is_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(InputError, match=rf"for --log {name}, .*pip install 'timm-face-zoo\[{name}\]'"):
        MetricsFile(tmp_path / "metrics.jsonl", 0, LOGGERS[name](tmp_path, {}))


class Recorder:
    """In the place of a logger's package, and of its run: notes every call."""

    step = 3

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **named: self.calls.append((name, (*words, named))) or self

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("closed", ()))


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("wandb", ["init", "log", "closed"]),  # the line of step 2 is there already
        ("mlflow", ["start_run", "log_params", "log_metrics", "log_metrics", "closed"]),
    ],
)
def test_a_logger_gets_the_numbers_of_each_line_once_and_is_closed(
    name: str, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, name, package)
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 0.5, "time": 1.0}\n')
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 3, LOGGERS[name](tmp_path, {"lr": 0.1}))
    metrics.write({"step": 4, "epoch": 1, "note": "x", "loss": float("nan"), "validation": {"auc lfw": 0.875}})
    metrics.close()
    assert [call for call, _ in package.calls] == calls
    told = [words for call, words in package.calls if call.startswith("log") and call != "log_params"]
    assert told[-1][0] == {"train/epoch": 1, "validation/auc lfw": 0.875}
    assert {"lr": 0.1} in (package.calls[0][1][-1].get("config"), package.calls[1][1][0])
    assert 4 in (told[-1][1], told[-1][-1].get("step") if isinstance(told[-1][-1], dict) else None)


def test_a_logger_that_fails_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0, LOGGERS["mlflow"](tmp_path, {}))
    monkeypatch.setattr(package, "log_metrics", lambda *_: 1 // 0, raising=False)
    for step in (1, 2):
        metrics.write({"step": step, "loss": 0.5})
    metrics.close()
    assert len(lines(tmp_path)) == 2 and package.calls[-1][0] == "closed"
    assert [m for m in caplog.messages if "--log has failed" in m] == [
        "--log has failed (integer division or modulo by zero); metrics.jsonl goes on"
    ]
    monkeypatch.setattr(package, "start_run", lambda **_: 1 // 0, raising=False)
    with pytest.raises(InputError, match=r"expected --log to open a run there, found none .*division"):
        MetricsFile(tmp_path / "other.jsonl", 0, LOGGERS["mlflow"](tmp_path, {}))


def test_the_log_survives_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    metrics = MetricsFile(file, resume_at=2)
    metrics.write({"step": 3, "loss": 1.0})
    metrics.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 3), (2, 2), (3, 1)]


def test_the_page_of_curves_needs_nothing_beside_it(watched: Path) -> None:
    text = (watched / "curves.html").read_text()
    for title in ("Loss", "Learning rate", "t of the head", "Share of hard negatives", "Mean cosine"):
        assert f'aria-label="{title}' in text
    assert text.count("<svg") == 8 and "step 14, epoch 2 of 2" in text
    for outside in ("<script", "src=", "@import", '<link rel="stylesheet"'):
        assert outside not in text
    assert "Validation" not in text


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


def test_the_page_shows_the_validation_and_leaves_out_what_was_not_measured() -> None:
    records: list[dict[str, Any]] = [
        {"step": 2, "epoch": 1, "loss": None, "lr": 0.5},
        {"step": 2, "epoch": 1, "validation": {"accuracy": 0.75, "auc": 0.8}},
        {"step": 4, "epoch": 2, "loss": 3.0, "lr": 0.25},
        {"step": 4, "epoch": 2, "validation": {"accuracy": 0.5, "auc": 0.9}},
    ]
    text = page("<i>run</i>", {"backbone": "resnet18", "head": "arcface", "data": "a & b", "epochs": 2}, records)
    assert "Best validation: accuracy 0.5000, AUC 0.9000 after step 4 (epoch 2)" in text
    assert text.count("<svg") == 3 and "&lt;i&gt;run" in text and "a &amp; b" in text
    assert "<svg" not in page("new", {}, [])


def test_a_page_is_drawn_of_any_run(tmp_path: Path) -> None:
    run = start(tiny(), tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    write_curves(run)
    assert "<h1>run</h1>" in (run / "curves.html").read_text()
