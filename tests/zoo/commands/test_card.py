"""zoo card as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub_models import make_run
from zoo import cli


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path / "runs" / "toy")


def test_a_card_is_written_into_the_run_with_and_without_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["card", "toy", "--license", "apache-2.0", "--html"]) == 0
    assert capsys.readouterr().out.split() == ["runs/toy/README.md", "runs/toy/README.html"]
    assert "<!doctype html>" in (run / "README.html").read_text()
    assert "license: apache-2.0" in (run / "README.md").read_text()
    assert cli.main(["card"]) == 0
    assert "no license is stated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "no model is called 'nothing'"),
        (["toy", "--license-name", "mine"], "found no --license"),
        (["toy", "--license", "other"], "expected --license-name and --license-link"),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    words: list[str], sentence: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.iterdir()}
    assert cli.main(["card", *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1
    assert {file: file.stat().st_mtime_ns for file in run.iterdir()} == before
