"""`zoo train`: its flags, what it refuses in one sentence, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import TINY
from zoo import runs
from zoo.cli import main
from zoo.commands.options import Parser
from zoo.commands.train import add_arguments
from zoo.formats.images import encode_png
from zoo.train import checkpoint
from zoo.train.config import TrainConfig, option_names
from zoo.train.start import Trained


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data", "2024"], "found nothing; check the path"),
        (["--data", "on"], "at on, found nothing; check the path"),
        (["--data", "~"], "at ~, found nothing; check the path"),
        (["--set", "lr=0.1", "--set", "lr.x=1"], "expected --lr to be a number, found --set lr.x=1"),
        (["--set", "lr.x=1"], "expected --lr to be a number, found --set lr.x=1"),
        (["--lr", "[1"], "expected --lr to be a number, found '[1'"),
        (["--set", "centres.chunk_size=foo"], "to be a whole number or auto or none, found 'foo'"),
        (["--set", "centres.compiled=maybe"], "expected centres.compiled to be true or false, found 'maybe'"),
        (["--set", "centres.sample_rate=5e0"], "expected a sample_rate above 0 and at most 1, found 5.0"),
        (["--set", "head_options.alpha=1e9"], "expected alpha between"),
    ],
)
def test_an_options_text_is_never_a_fault_of_ours_and_leaves_nothing(
    tmp_path: Path, words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--batch-size", "5", "--set", "backbone=test_resnet", "--stem", "stock"]
    data = [] if "--data" in words else ["--data", "synthetic:5x7"]
    assert main(["train", "--quiet", *tiny, *data, *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*"))


def test_help_lists_the_flags_with_their_defaults_and_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in option_names(listed=True):
        default = getattr(TrainConfig(), name)
        line = text.split(f" --{name.replace('_', '-')} ")[-1].split(" --")[0]
        assert default is None or line.endswith(f"(default: {default})"), name
    for name in option_names(listed=False):
        assert name == "backbone" or f"{name}=" in text, name


def test_an_option_that_is_true_or_false_needs_no_value() -> None:
    parser = Parser()
    add_arguments(parser)
    assert parser.parse_args(["resnet18", "--deterministic", "--compile", "false"]).set == [
        "deterministic=true",
        "compile=false",
    ]


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
        (["train", "--resume", "a", "--name", "b"], "expected --resume alone, found --name, --resume-or-start or"),
        (["train", "--resume", "--dry-run"], "expected --resume alone"),
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
        (
            ["train", "--recipe", "mine.yaml"],
            "expected a YAML file of training options at mine.yaml, cannot read it (No such file",
        ),
        (["train", "--data", "synthetic:5x7", "--min-images", "3"], "expected no filter on a generated set"),
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


def lines(run: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


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
    assert "person-2/3.png" in capfd.readouterr().err
    assert main(["train", "--resume", "strict", "--on-corrupt=skip"]) == 0
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
    for change in ("--min-images=3", "--max-images=5"):
        assert main(["train", "--resume", "run", change]) == 2
        option = change[2:].split("=")[0].replace("-", "_")
        assert f"found other values for {option};" in capsys.readouterr().err


def test_json_has_null_where_a_figure_is_not_finite(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Trained(Path("runs/a"), {"step": 1, "loss": float("nan")})
    monkeypatch.setattr("zoo.commands.train.train", lambda **given: outcome)
    assert main(["train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "runs/a", "step": 1, "loss": None}
