"""What people watch of a run: metrics.jsonl, TensorBoard, the page of curves, and counts of skipped images."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training import TINY, start, tiny
from zoo.cli import main
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.train.curves import page, write_curves
from zoo.train.log import Board, MetricsFile
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
    metrics = MetricsFile(tmp_path / "metrics.jsonl", resume_at=0, board=tmp_path / "board")
    metrics.write({"step": 7, "loss": float("nan"), "lr": 0.5})
    metrics.write({"step": 7, "epoch": 1, "validation": {"accuracy": 0.75, "auc": 0.875}})
    metrics.close()
    board = accumulator.EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"train/lr", "train/epoch", "validation/accuracy", "validation/auc"}
    (event,) = board.Scalars("validation/auc")
    assert (event.step, event.value) == (7, 0.875)


def test_tensorboard_that_is_not_installed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'timm-face-zoo\[tensorboard\]'"):
        Board(tmp_path / "board")


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


def test_the_page_shows_the_validation_and_leaves_out_what_was_not_measured() -> None:
    records: list[dict[str, Any]] = [
        {"step": 2, "epoch": 1, "loss": None, "lr": 0.5},
        {"step": 2, "epoch": 1, "validation": {"accuracy": 0.75, "auc": 0.8}},
        {"step": 4, "epoch": 2, "loss": 3.0, "lr": 0.25},
        {"step": 4, "epoch": 2, "validation": {"accuracy": 0.5, "auc": 0.9}},
    ]
    text = page("<i>run</i>", {"backbone": "resnet18", "head": "arcface", "data": "a & b", "epochs": 2}, records)
    assert "Best validation: accuracy 0.7500, AUC 0.8000 after step 2 (epoch 1)" in text
    assert text.count("<svg") == 3 and "&lt;i&gt;run" in text and "a &amp; b" in text
    assert "<svg" not in page("new", {}, [])


def test_a_page_is_drawn_of_any_run(tmp_path: Path) -> None:
    run = start(tiny(), tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    write_curves(run)
    assert "<h1>run</h1>" in (run / "curves.html").read_text()


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Four people with 3, 4, 5 and 6 pictures of noise, one of which is damaged."""
    noise = np.random.default_rng(0)
    for person, images in enumerate((3, 4, 5, 6)):
        folder = tmp_path / f"faces/person-{person}"
        folder.mkdir(parents=True)
        for number in range(images):
            picture = encode_png(noise.integers(0, 256, (112, 112, 3), dtype=np.uint8))
            (folder / f"{number}.png").write_bytes(picture)
    (tmp_path / "faces/person-2/3.png").write_bytes(b"no picture")
    return tmp_path / "faces"


def words(*more: str) -> list[str]:
    """`zoo train` of the tiny run, with more words."""
    kept = {name: value for name, value in TINY.items() if name not in ("head_options", "data", "log_every")}
    return ["train", *(f"--set={name}={value}" for name, value in kept.items()), "--set=epochs=2", *more]


def test_damaged_images_are_refused_or_skipped_and_counted(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(faces.parent)
    assert main(words("--data=faces", "--batch-size=6", "--name=strict")) == 2
    assert "person-2/3.png" in capfd.readouterr().err and not Path("runs").exists()
    assert main(words("--data=faces", "--batch-size=6", "--name=run", "--on-corrupt=skip")) == 0
    told = capfd.readouterr().err.replace("\n", " ")
    assert "1 damaged images skipped" in told and "person-2/3.png" in told
    assert [line["skipped"] for line in lines(Path("runs/run")) if "skipped" in line][-1] == 1


def test_people_with_few_images_are_left_out_and_a_resume_cannot_change_that(
    faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(faces.parent)
    (faces / "person-2/3.png").unlink()
    assert main(words("--data=faces", "--batch-size=4", "--name=run", "--min-images=4", "--max-images=4")) == 0
    assert "12 images of 3 identities" in capsys.readouterr().err
    for change in ("--min-images=3", "--max-images=5", "--on-corrupt=skip"):
        assert main(["train", "--resume", "run", change]) == 2
        option = change[2:].split("=")[0].replace("-", "_")
        assert f"found other values for {option};" in capsys.readouterr().err
