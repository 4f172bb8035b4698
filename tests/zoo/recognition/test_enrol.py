"""A folder of people: who is in it, and what a reader is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.toy_faces import write_people, write_town
from zoo.errors import InputError
from zoo.formats.images import encode_png, read_image, resized
from zoo.recognition.enrol import alike, enrol, people_in
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceVerifier


def test_each_sub_folder_with_a_picture_is_a_person_and_the_rest_is_said(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "people", {"Bob": [(1, 0)], "Ada": [(2, 0), (3, 0)]})
    (folder / "Ada" / "older").mkdir()
    (folder / "Ada" / "older" / "x.jpg").write_bytes(b"")
    (folder / "Nobody").mkdir()
    (folder / ".hidden").mkdir()
    (folder / "loose.jpg").write_bytes(b"")
    people, notes = people_in(folder)
    assert {name: len(pictures) for name, pictures in people.items()} == {"Ada": 3, "Bob": 1}
    assert [note.removeprefix(f"{folder}/") for note in notes] == [
        "Nobody holds no picture: left out",
        f"1 files lie beside the folders of people in {folder}: left out",
    ]


def test_a_folder_without_people_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture in any sub-folder"):
        people_in(tmp_path)
    with pytest.raises(InputError, match="found none; check the path"):
        people_in(tmp_path / "gone")


def test_names_that_differ_in_case_alone_are_said() -> None:
    assert alike(["Ada", "Bob", "ADA"]) == ["Ada and ADA differ in upper and lower case alone: kept as 2 people"]
    assert alike(["Ada", "Bob"]) == []


def test_a_photo_counts_once_a_person_and_failures_and_duplicates_are_said(tmp_path: Path) -> None:
    people, _ = people_in(write_town(tmp_path) / "people")
    verifier = FaceVerifier(tmp_path / "model.onnx", aligned=True)
    with Journal(tmp_path / "journal", {}) as journal:
        photos, notes = enrol(verifier, people, journal)
    assert [name for name, _, _ in photos] == ["Ada", "Ada", "Bob", "Eve", "ada"]
    said = "\n".join(notes).replace(f"{tmp_path}/people/", "")
    assert "Bob/1.png is the same file as Bob/0.png: counted once" in said
    assert "Ada/0.png and Eve/0.png are one photo under 2 names: Ada and Eve" in said
    assert "Broken/x.png" in said and len(notes) == 3


def test_photos_of_an_earlier_folder_are_left_out(tmp_path: Path) -> None:
    verifier = FaceVerifier(write_town(tmp_path) / "model.onnx", aligned=True)
    with Journal(tmp_path / "journal", {}) as journal:
        enrol(verifier, {"Ada": [tmp_path / "ada.png"]}, journal)
        photos, _ = enrol(verifier, {"Bob": [tmp_path / "bob.png"]}, journal)
        assert [name for name, _, _ in photos] == ["Bob"]


def test_of_several_faces_one_is_enrolled_and_enrolment_warns_as_verification_does(
    shared: Path, tmp_path: Path
) -> None:
    models, couple = shared / "models", shared / "photos" / "group_couple.jpg"
    detector = models / "face_detection_yunet_2026may.onnx"
    verifier = FaceVerifier(models / "mobilefacenet.onnx", detector, face="all")
    small = tmp_path / "small.png"
    picture = read_image(shared / "photos" / "person_a_1.jpg")
    small.write_bytes(encode_png(resized(picture, (picture.shape[0] // 20, picture.shape[1] // 20))))
    with Journal(tmp_path / "journal", {}) as journal:
        photos, notes = enrol(verifier, {"Couple": [couple], "Small": [small]}, journal)
    largest = verifier.taking("largest")
    assert [name for name, *_ in photos] == ["Couple", "Small"] and "shows 2 faces: the largest was taken" in notes[0]
    assert notes == [*largest.crop(couple).notes, *largest.crop(small).notes] and "is small (" in notes[1]
