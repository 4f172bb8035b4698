"""Lists of pairs: what their similarities say together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.toy_faces import write_model, write_people
from zoo.evaluate.metrics import auc
from zoo.recognition.pairs import summarise, verify_pairs
from zoo.recognition.verifier import FaceVerifier

ALL = [("a", 0, "a", 1), ("b", 0, "b", 1), ("a", 0, "b", 0), ("a", 1, "b", 1), ("a", 0, "b", 1)]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    write_people(tmp_path / "people", {"a": [(1, 1), (1, 2)], "b": [(2, 1), (2, 2)]})
    return tmp_path


def test_the_summary_is_that_of_the_known_pairs_alone(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    paths = {(p, i): room / "people" / p / f"{i}.png" for p in "ab" for i in (0, 1)}
    pairs = [(paths[p, i], paths[q, j], p == q) for p, i, q, j in ALL]
    answers = verify_pairs(verifier, [*pairs, (paths["a", 0], paths["b", 0], None)])
    summary, alone = summarise(answers), summarise(answers[:-1])
    assert summary is not None and alone is not None
    assert summary.auc == alone.auc == auc(alone.scores)
    assert summarise(answers[:2]) is None and summarise([]) is None
