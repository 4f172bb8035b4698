"""Folders of crops: named as their photos, logged, and continued after a kill with whole crops only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.killing import finish, kill_at, start
from zoo.errors import InputError
from zoo.faces.align import align
from zoo.faces.detect import FaceDetector, load_detector
from zoo.formats.images import encode_png, read_image
from zoo.recognition import align_photos


@pytest.fixture(scope="module")
def detector(shared: Path) -> FaceDetector:
    return load_detector(shared / "models" / "face_detection_yunet_2026may.onnx")


def log_of(folder: Path) -> dict[str, dict[str, object]]:
    """The lines of a log by photo, without the first, which has the options."""
    lines = [json.loads(line) for line in (folder / "align.jsonl").read_text().splitlines()[1:]]
    return {line["photo"]: line for line in lines}


def test_a_crop_is_the_largest_faces_and_called_as_its_photo(
    detector: FaceDetector, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "ada").mkdir(parents=True)
    content = (shared / "photos" / "person_a_1.jpg").read_bytes()
    (tmp_path / "photos" / "ada" / "1.jpg").write_bytes(content)
    done = align_photos(tmp_path / "photos", tmp_path / "crops", detector, size=96, suffix="png")
    assert (done.photos, done.crops, done.skipped, done.log) == (1, 1, 0, tmp_path / "crops" / "align.jsonl")
    photo = read_image(shared / "photos" / "person_a_1.jpg")
    expected = align(photo, detector.refine(photo, detector.detect(photo)[0]).landmarks, (96, 96))
    np.testing.assert_array_equal(read_image(tmp_path / "crops" / "ada" / "1.jpg.png"), expected)


def test_every_face_is_numbered_from_left_to_right(detector: FaceDetector, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "couple.jpg").write_bytes((shared / "photos" / "group_couple.jpg").read_bytes())
    assert align_photos(tmp_path / "photos", tmp_path / "crops", detector, face="all").crops == 2
    crops = log_of(tmp_path / "crops")["couple.jpg"]["crops"]
    assert isinstance(crops, list)
    assert [crop["crop"] for crop in crops] == ["couple.jpg.0.png", "couple.jpg.1.png"]
    assert crops[0]["box"][0] < crops[1]["box"][0]


def test_photos_that_were_done_are_not_searched_again_unless_their_crop_is_gone(
    detector: FaceDetector, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("person_a_1.jpg", "person_b_1.jpg"):
        (tmp_path / "photos" / name).write_bytes((shared / "photos" / name).read_bytes())
    first = align_photos(tmp_path / "photos", tmp_path / "crops", detector)
    (tmp_path / "crops" / "person_b_1.jpg.png").unlink()
    before = (tmp_path / "crops" / "align.jsonl").read_text()
    again = align_photos(tmp_path / "photos", tmp_path / "crops", detector)
    added = (tmp_path / "crops" / "align.jsonl").read_text().removeprefix(before).splitlines()
    assert again == first and [json.loads(line)["photo"] for line in added] == ["person_b_1.jpg"]


def test_the_log_says_why_a_photo_was_skipped_and_other_options_are_refused(
    detector: FaceDetector, shared: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos" / "ada"
    photos.mkdir(parents=True)
    (photos / "wall.png").write_bytes(encode_png(np.full((90, 90, 3), 128, np.uint8)))
    (photos / "text.jpg").write_text("no picture")
    (photos / "ada.jpg").write_bytes((shared / "photos" / "person_a_1.jpg").read_bytes())
    (photos / "notes.txt").write_text("not looked at")
    source, target = tmp_path / "photos", tmp_path / "crops"
    done = align_photos(source, target, detector)
    assert json.loads(done.to_json()) == {"photos": 3, "crops": 1, "skipped": 2}
    reasons = {photo: str(line["reason"]) for photo, line in log_of(target).items()}
    assert "found none" in reasons["ada/wall.png"] and "no picture" not in reasons["ada/ada.jpg"]
    assert "text.jpg" in reasons["ada/text.jpg"] and reasons["ada/ada.jpg"] == ""
    assert (target / "ada" / "ada.jpg.png").is_file()
    with pytest.raises(InputError, match="another size"):
        align_photos(source, target, detector, size=224)
    for output, size in ((source / "crops", 112), (target, 15), (target, 1025)):
        with pytest.raises(InputError, match=r"outside|from 16 to 1024"):
            align_photos(source, output, detector, size=size)


def test_a_killed_align_goes_on_with_whole_crops_only(shared: Path, tmp_path: Path) -> None:
    detector = str(shared / "models" / "face_detection_yunet_2026may.onnx")
    words = ["align", str(shared / "photos"), str(tmp_path / "crops"), "--detector", detector, "--json"]
    kill_at(start(tmp_path, words), tmp_path / "crops" / "align.jsonl", 900)
    told = finish(start(tmp_path, words))
    assert json.loads(told) == {"photos": 14, "crops": 14, "skipped": 0}
    crops = sorted(
        path for path in (tmp_path / "crops").rglob("*") if path.suffix == ".png" or path.name.startswith(".")
    )
    assert len(crops) == 14
    assert all(read_image(crop).shape == (112, 112, 3) for crop in crops)
    lines = [json.loads(line) for line in (tmp_path / "crops" / "align.jsonl").read_text().splitlines()]
    assert {line["photo"] for line in lines[1:]} == {path.name for path in (shared / "photos").glob("*.jpg")}
