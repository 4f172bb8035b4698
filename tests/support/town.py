"""Three people whose photos a toy model tells apart, in the working folder of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.toy_faces import write_model, write_people
from zoo.recognition import FaceVerifier

PEOPLE = {"Ada": [(1, 1), (1, 2)], "Bob": [(3, 1), (3, 2)], "Carla": [(5, 1)]}


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of PEOPLE; model.onnx lies beside it."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    return write_people(tmp_path / "people", PEOPLE)


@pytest.fixture
def verifier(town: Path) -> FaceVerifier:
    """One of the town's model."""
    return FaceVerifier("model.onnx", aligned=True)
