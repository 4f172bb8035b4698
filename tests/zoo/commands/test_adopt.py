"""zoo adopt as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.official import SMALL, draw
from zoo import cli


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "mbf.pth"
    torch.save({**draw(SMALL["mbf"].network()).state_dict(), "weight": torch.ones(3)}, path)
    return path


def test_it_says_what_it_made_and_what_is_not_known(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["adopt", str(checkpoint), "--as", "arcface_torch", "-o", str(tmp_path / "model")]) == 0
    shown = capsys.readouterr().out
    assert "mbf, 16 dimensions" in shown and "input RGB, (x − 127.5) / 127.5, as arcface_torch (https://" in shown
    assert "not in the catalogue" in shown and "left, as no part of the embedding: weight" in shown
    assert (tmp_path / "model/config.json").is_file()


def test_it_prints_the_facts_for_a_script(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adopt", str(checkpoint), "--as", "arcface_torch", "-o", str(tmp_path / "model"), "--json"]
    assert cli.main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backbone"] == "mbf" and record["origin"]["leftovers"] == ["weight"]


def test_without_as_it_names_the_conventions_and_exits_with_two(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["adopt", str(checkpoint), "-o", str(tmp_path / "model")]) == 2
    assert "expected --as" in capsys.readouterr().err and not (tmp_path / "model").exists()
