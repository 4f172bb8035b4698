"""Lists of pairs: each row as `verify` has it, failures in their rows alone, and the figures of the known ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model, write_people
from zoo.errors import InputError
from zoo.evaluate.metrics import auc
from zoo.formats.images import encode_png
from zoo.recognition.batch import PairAnswer, VerifiedPairs, verify_pairs
from zoo.recognition.threshold import Decision
from zoo.recognition.verifier import FaceVerifier

ROWS = ["a/0,a/1,1", "b/0,b/1,1", "a/0,b/0,0", "a/1,b/1,0", "a/0,b/1,0"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    write_people(tmp_path, {"a": [(1, 1), (1, 2)], "b": [(2, 1), (2, 2)]})
    return tmp_path


def write_list(folder: Path, rows: list[str]) -> Path:
    lines = ["{}.png,{}.png,{}".format(*row.split(",")) for row in rows]
    (folder / "pairs.csv").write_text("\n".join(["a,b,same", *lines]) + "\n")
    return folder / "pairs.csv"


def test_each_row_has_the_similarity_and_the_verdict_of_its_two_pictures(folder: Path) -> None:
    verifier = FaceVerifier(folder / "model.onnx", aligned=True, threshold=0.9)
    answers = verify_pairs(write_list(folder, ROWS), verifier)
    for row in answers.rows:
        alone = verifier.verify(row.a, row.b)
        assert row.similarity == pytest.approx(alone.similarity, abs=1e-6) and row.same == alone.same and row.right
    assert answers.summary is not None and (answers.summary.right, answers.summary.judged) == (5, 5)
    told = json.loads(answers.to_json())
    assert told["summary"]["auc"] == 1.0 and told["model"] == str(folder / "model.onnx")


def test_a_picture_that_cannot_be_used_fails_its_own_rows_with_the_reason(folder: Path) -> None:
    (folder / "a" / "1.png").write_bytes(b"damaged")
    answers = verify_pairs(write_list(folder, ROWS), FaceVerifier(folder / "model.onnx", aligned=True))
    assert [row.similarity is None for row in answers.rows] == [True, False, False, True, False]
    assert all("1.png" in (row.reason or "") for row in answers.failed) and len(answers.failed) == 2


def test_a_row_has_the_notes_of_its_two_pictures(folder: Path) -> None:
    (folder / "a" / "0.png").write_bytes(encode_png(crop(1, (224, 224))))
    answers = verify_pairs(write_list(folder, ROWS), FaceVerifier(folder / "model.onnx", aligned=True))
    noted = f"{folder}/a/0.png is 224×224, resized to 112×112"
    assert [row.notes for row in answers.rows] == [(noted,), (), (noted,), (), (noted,)]


def test_the_summary_is_that_of_the_known_pairs_alone(folder: Path) -> None:
    verifier = FaceVerifier(folder / "model.onnx", aligned=True)
    answers = verify_pairs(write_list(folder, [*ROWS, "a/0,b/0,"]), verifier)
    scores, alone = answers.scores, replace(answers, rows=answers.rows[:-1]).scores
    assert answers.rows[-1].truth is None and scores is not None and alone is not None
    np.testing.assert_array_equal(scores.negatives, alone.negatives)
    assert answers.summary is not None and answers.summary.auc == auc(alone)
    for few in (answers.rows[:2], ()):
        assert replace(answers, rows=few).scores is None and replace(answers, rows=few).summary is None


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_separating_threshold_is_told_where_one_is_right_for_all(shift: float) -> None:
    same, different = np.linspace(0.4, 0.9, 7), np.linspace(-0.2, 0.3, 11) + shift
    rows = [PairAnswer(Path("a"), Path("b"), True, float(s), None) for s in same]
    rows += [PairAnswer(Path("a"), Path("b"), False, float(s), None) for s in different]
    summary = VerifiedPairs(tuple(rows), Decision(None, ""), Path("model.onnx")).summary
    assert summary is not None
    assert summary.separating == (None if shift else (float(different.max()), float(same.min())))
    assert list(summary.tar_at_far) == [0.1]  # 11 pairs cannot show a rate of 0.01


def test_all_faces_of_a_picture_are_no_row(folder: Path) -> None:
    verifier = FaceVerifier(folder / "model.onnx", aligned=True, face="all")
    with pytest.raises(InputError, match="a row compares two faces"):
        verify_pairs(write_list(folder, ROWS), verifier)
