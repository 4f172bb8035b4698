"""zoo list as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo import cli
from zoo.commands.list import LISTS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("kind", [kind for kind in LISTS if kind != "models"])
def test_every_list_prints_lines_and_records(kind: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "runs/demo").mkdir(parents=True)
    (folder / "runs/demo/config.yaml").touch()
    assert cli.main(["list", kind, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert records and all(record["name"] for record in records)
    assert cli.main(["list", kind]) == 0
    shown = capsys.readouterr().out
    assert all(record["name"] in shown for record in records)


def test_a_pattern_narrows_a_list_and_one_without_a_match_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "heads", "arc*", "--json"]) == 0
    assert [record["name"] for record in json.loads(capsys.readouterr().out)] == ["arcface"]
    assert cli.main(["list", "heads", "zzz*"]) == 2
    assert "expected heads matching 'zzz*', found none" in capsys.readouterr().err


def test_an_unknown_list_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "head"]) == 2
    assert "did you mean heads?" in capsys.readouterr().err
