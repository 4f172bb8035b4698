"""zoo cluster: from photos or a table to people, a page of contact sheets and folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.toy_faces import DIM, STRICT, write_model, write_people
from zoo.cli import main
from zoo.modelinfo import ModelInfo


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx", ModelInfo(DIM, thresholds=(replace(STRICT, far=0.001),)))
    return write_people(tmp_path / "photos", {"one": [(1, 1), (2, 1)], "two": [(1, 2), (2, 2), (3, 1)]})


MODEL = ("--model", "model.onnx", "--aligned")


def test_photos_become_people_at_the_threshold_of_a_measured_rate(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cluster", "photos", "-o", "p.json", *MODEL, "--far", "0.001", "--folders", "people", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["people"], told["faces"], told["far"], told["page"]) == (3, 5, 0.001, "p.html")
    assert Path("p.html").is_file() and Path("p.npz").is_file() and len(list(Path("people").iterdir())) == 3
    words = ["cluster", "p.npz", "-o", "p.json", "--threshold", "0.9"]
    assert main([*words, "--different", "photos/one/0.png", "photos/two/0.png"]) == 0
    assert "p.json: 4 people of 5 faces, threshold 0.9000: given" in capsys.readouterr().out
    assert main(words) == 0 and "4 people" in capsys.readouterr().out


def test_a_table_needs_a_threshold_and_a_model_may_have_it(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "photos", "-o", "t.npz", *MODEL]) == 0
    assert main(["cluster", "t.npz", "-o", "p.json", *MODEL]) == 0
    assert "FAR 0.001 on made up" in capsys.readouterr().out
    write_model(Path("bare.onnx"))
    assert main(["cluster", "t.npz", "-o", "q.json", "--model", "bare.onnx", "--aligned"]) == 2
    assert "expected a threshold to sort faces by" in capsys.readouterr().err and not Path("q.json").exists()


@pytest.mark.parametrize("name", ["p.html", "p.npz", "folder"])
def test_an_output_that_the_page_or_the_table_would_replace_is_rejected(
    town: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    assert main(["embed", "photos", "-o", "t.npz", *MODEL]) == 0
    assert main(["cluster", "t.npz", "-o", name, "--threshold", "0.9"]) == 2
    assert name in capsys.readouterr().err and not Path("p.html").exists() and not Path("p.npz").exists()
