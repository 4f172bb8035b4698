"""zoo embed: what it prints, and that it replaces no table unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import write_model, write_people
from zoo.cli import main


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty-five pictures, all but three damaged."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    write_people(tmp_path / "photos", {"a": [(1, 0), (2, 0), (3, 0)]})
    for number in range(22):
        (tmp_path / "photos" / f"damaged{number:02}.png").write_bytes(b"damaged")
    return tmp_path


WORDS = ("embed", "photos", "--model", "model.onnx", "--aligned")


def test_the_count_is_printed_and_the_first_failures(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "-o", "t.npz"]) == 0
    out, err = capsys.readouterr()
    assert out == "t.npz: 3 faces of 25 pictures, 22 failed\n"
    notes = err.splitlines()
    assert len(notes) == 21 and notes[-1] == "note: and 2 more, listed in t.npz"
    with np.load("t.npz") as table:
        assert len(table["failed"]) == 22


def test_a_script_reads_every_failure(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "-o", "t.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told.pop("failures")) == 22
    assert told == {"output": "t.npz", "pictures": 25, "embedded_now": 25, "faces": 3, "failed": 22}


def test_an_existing_table_and_an_unknown_format_are_refused(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "-o", "t.npz"]) == 0
    capsys.readouterr()
    assert main([*WORDS, "-o", "t.npz"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*WORDS, "-o", "t.npz", "--overwrite"]) == 0
    assert main([*WORDS, "-o", "t.csv"]) == 2
