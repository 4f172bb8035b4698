"""Identification: who is named, who is only ranked, and what a reader is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model, write_town
from zoo.errors import InputError
from zoo.faces.finder import FaceRule
from zoo.formats.images import read_image
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition.identify import identify_many


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_town(tmp_path)


@pytest.mark.parametrize("face", ["largest", "all"])
def test_people_are_indexed_identified_and_removed_in_python(town: Path, face: FaceRule) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True, face=face)
    done = Gallery.index("people", "g", verifier)
    assert (len(done.gallery), done.added) == (4, 5)
    answer = Gallery.open("g").identify("bob.png", verifier, threshold=0.9, top=2)
    assert [one.name for one in answer.faces] == ["Bob"] and len(answer.faces[0].candidates) == 2
    assert json.loads(answer.to_json())["faces"][0]["identified"] == "Bob"
    assert Gallery.of("people", verifier).identify(crop(9), verifier, threshold=0.9).faces[0].name is None
    without = done.gallery.remove(["Bob"])
    assert without.identify("bob.png", verifier, threshold=0.9).faces[0].name is None and len(done.gallery) == 4


def test_fewer_than_one_candidate_and_a_gallery_without_people_are_refused(town: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    gallery = Gallery.of("people", verifier)
    with pytest.raises(InputError, match="expected people in the gallery"):
        gallery.remove(gallery.names()).identify("bob.png", verifier)
    with pytest.raises(InputError, match="at least 1 person, found 0"):
        gallery.identify("bob.png", verifier, top=0)


def test_another_models_gallery_is_refused(town: Path) -> None:
    gallery = Gallery.of("people", FaceVerifier("model.onnx", aligned=True))
    with pytest.raises(InputError, match="another model"):
        gallery.identify("bob.png", FaceVerifier(write_model(town / "other.onnx", gain=2.0), aligned=True))


@pytest.fixture(scope="module")
def real(shared: Path) -> FaceVerifier:
    models = shared / "models"
    return FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx", face="all")


def test_the_very_file_that_was_indexed_is_found_with_a_similarity_of_one(
    real: FaceVerifier, shared: Path, tmp_path: Path
) -> None:
    photos = sorted((shared / "photos").glob("person_*_1.jpg"))
    for photo in photos:
        (tmp_path / photo.stem).mkdir()
        (tmp_path / photo.stem / photo.name).symlink_to(photo)
    gallery = Gallery.of(tmp_path, real.taking("largest"))
    for photo in photos:
        faces = gallery.identify(photo, real, threshold=0.5).faces
        best = max(faces, key=lambda face: face.candidates[0][1])
        assert best.name == photo.stem and best.candidates[0][1] > 0.9999


def test_one_person_who_is_seen_twice_is_noted(real: FaceVerifier, shared: Path, tmp_path: Path) -> None:
    photo = shared / "photos" / "person_a_1.jpg"
    (tmp_path / "Ada").mkdir()
    (tmp_path / "Ada" / "1.jpg").symlink_to(photo)
    picture = read_image(photo)
    answer = Gallery.of(tmp_path, real).identify(np.concatenate([picture, picture], axis=1), real, threshold=0.5)
    assert [face.name for face in answer.faces] == ["Ada", "Ada"] and answer.notes == ("Ada was found 2 times",)


def test_every_photo_of_a_folder_is_identified_and_one_that_cannot_be_used_is_told(town: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    gallery = Gallery.of("people", verifier)
    (town / "photos").mkdir()
    for name in ("ada", "bob"):
        (town / f"{name}.png").rename(town / "photos" / f"{name}.png")
    (town / "photos" / "broken.png").write_bytes(b"damaged")
    found = dict(identify_many(gallery, ["photos", "stranger.png"], verifier, threshold=0.9))
    assert list(found) == ["photos/ada.png", "photos/bob.png", "photos/broken.png", "stranger.png"]
    broken = found.pop("photos/broken.png")
    assert isinstance(broken, InputError) and "broken.png" in str(broken)
    for path, answer in found.items():
        assert answer == gallery.identify(path, verifier, threshold=0.9)
    with pytest.raises(InputError, match="at least 1 person"):
        next(identify_many(gallery, ["photos"], verifier, top=0))
