"""Drawn answers: the crops in their own colours, every face's name, and files of the names that were asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model
from zoo.errors import InputError
from zoo.faces.detect import Face
from zoo.formats.images import Image
from zoo.recognition.batch import PairAnswer, VerifiedPairs
from zoo.recognition.identify import (
    Identification,
    IdentifiedFace,
    draw_faces,
    draw_identification,
    draw_verification,
    save_picture,
    save_roc,
)
from zoo.recognition.threshold import Decision
from zoo.recognition.verifier import FaceVerifier


@pytest.fixture
def verifier(tmp_path: Path) -> FaceVerifier:
    return FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True, threshold=0.5)


def test_the_drawn_answer_shows_both_crops_in_their_own_colours(verifier: FaceVerifier) -> None:
    red, blue = crop(1), crop(2)
    red[...], blue[...] = (200, 30, 20), (20, 30, 200)
    red[:56], blue[:56] = 90, 90
    drawn = draw_verification(red, blue, verifier.verify(red, blue)).reshape(-1, 3).astype(int)
    for colour in ((200, 30, 20), (20, 30, 200)):
        assert (np.abs(drawn - colour).max(1) <= 2).sum() > 10_000


def test_pairs_of_one_kind_have_no_roc(tmp_path: Path) -> None:
    rows = tuple(PairAnswer(Path(), Path(), True, similarity, None) for similarity in (0.8, 0.9))
    with pytest.raises(InputError, match="expected pairs of both kinds to draw a ROC"):
        save_roc(tmp_path / "roc.png", VerifiedPairs(rows, Decision(None, ""), Path("model.onnx")))
    assert not list(tmp_path.iterdir())


def test_faces_are_drawn_where_they_are_and_nowhere_else() -> None:
    photo = np.full((300, 400, 3), 128, np.uint8)
    face = Face((200.0, 150.0, 50.0, 60.0), np.full((5, 2), (225.0, 180.0)), 0.9)
    drawn = draw_faces(photo, [(face, "")])
    rows, columns = np.nonzero((drawn != photo).any(2))
    assert (rows.min(), columns.min()) == (150, 200) and rows.max() <= 211 and columns.max() <= 251
    assert (photo == 128).all()
    labelled = draw_faces(photo, [(face, "Ada")])
    assert (labelled[:150] != photo[:150]).any()


def test_labels_stay_off_faces_and_off_each_other() -> None:
    """Two rows of faces, so close that a label above a lower face would cover the upper one."""
    photo = np.full((480, 640, 3), 128, np.uint8)
    boxes = [(40.0 + 190 * column, 60.0 + 210 * row, 150.0, 180.0) for row in range(2) for column in range(3)]
    faces = [Face(box, np.full((5, 2), 1.0), 0.9) for box in boxes]
    labelled = draw_faces(photo, [(face, f"Ada Lovelace {n}") for n, face in enumerate(faces)])
    ink = (labelled == (28, 30, 33)).all(2)
    for left, top, width, height in boxes:
        inside = ink[round(top) + 4 : round(top + height) - 4, round(left) + 4 : round(left + width) - 4]
        assert not inside.any()
    assert ink.any()


def test_a_face_of_nobody_does_not_look_like_a_hit() -> None:
    photo = np.full((300, 400, 3), 128, np.uint8)
    face = Face((200.0, 150.0, 50.0, 60.0), np.full((5, 2), (225.0, 180.0)), 0.9)
    green = [(draw_faces(photo, [(face, label)]) == (60, 220, 90)).all(2).any() for label in ("Ada 0.75", "unknown")]
    assert green == [True, False]


@pytest.mark.parametrize(("threshold", "name"), [(0.5, "Ada"), (0.5, None), (None, None)])
def test_an_identified_face_is_labelled_with_its_name_a_doubt_or_unknown(
    threshold: float | None, name: str | None, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def collect(picture: Image, named: list[tuple[Face, str]]) -> Image:
        labels.extend(label for _, label in named)
        return picture

    monkeypatch.setattr("zoo.recognition.identify.draw_faces", collect)
    face = Face((0.0, 0.0, 9.0, 9.0), np.zeros((5, 2)), 0.9)
    seen = replace(verifier.crop(crop(1)), face=face)
    found = (
        IdentifiedFace(seen, (("Ada", 0.754),), name),
        IdentifiedFace(verifier.crop(crop(2)), (("Bob", 0.1),), None),
    )
    draw_identification(crop(1), Identification(found, Decision(threshold, ""), 2))
    assert labels == [{(0.5, "Ada"): "Ada 0.75", (0.5, None): "unknown"}.get((threshold, name), "Ada? 0.75")]


def test_other_endings_than_png_and_jpg_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        save_picture(tmp_path / "o.gif", crop(1))
    assert not (tmp_path / "o.gif").exists()
