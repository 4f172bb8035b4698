"""`zoo train`: its flags, what it refuses in one sentence, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.cli import main
from zoo.train.config import TrainConfig, option_names


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
