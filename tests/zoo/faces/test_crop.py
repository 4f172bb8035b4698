"""Crops of loose pictures: by given landmarks, or by a detector that takes the central face."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.faces.align import ARCFACE_TEMPLATE, align
from zoo.faces.crop import DetectorCut, LandmarkCut, align_or_none
from zoo.formats.images import read_image

PICTURE = np.random.default_rng(0).integers(0, 256, (151, 131, 3), dtype=np.uint8)
LANDMARKS = ARCFACE_TEMPLATE + 9


def test_landmarks_at_one_point_stand_for_no_face() -> None:
    assert align_or_none(PICTURE, np.full((5, 2), 7.0)) is None
    np.testing.assert_array_equal(align_or_none(PICTURE, LANDMARKS), align(PICTURE, LANDMARKS))


def test_a_benchmarks_landmarks_cut_its_pictures_and_leave_aligned_crops_alone() -> None:
    cut = LandmarkCut({"a.jpg": tuple(LANDMARKS.ravel().tolist())})
    np.testing.assert_array_equal(cut(PICTURE, Path("x/a.jpg")), align(PICTURE, LANDMARKS))
    crop = PICTURE[:112, :112]
    assert cut(crop, Path("unlisted.jpg")) is crop
    with pytest.raises(InputError, match=r"landmarks for b\.jpg"):
        cut(PICTURE, Path("b.jpg"))


def test_other_landmarks_have_another_hash_whatever_their_order() -> None:
    one, other = (1.0,) * 10, (2.0,) * 10
    assert LandmarkCut({"a": one, "b": other}).sha256() == LandmarkCut({"b": other, "a": one}).sha256()
    assert LandmarkCut({"a": one}).sha256() != LandmarkCut({"a": other}).sha256()


def test_the_detectors_crop_is_the_central_face_after_pickling_too(shared: Path) -> None:
    file = shared / "models" / "face_detection_yunet_2026may.onnx"
    cut = pickle.loads(pickle.dumps(DetectorCut(str(file))))
    photo = read_image(shared / "photos" / "person_a_1.jpg")
    wide = np.full((photo.shape[0], 2 * photo.shape[1], 3), 128, np.uint8)
    wide[:, photo.shape[1] // 2 : photo.shape[1] // 2 + photo.shape[1]] = photo
    found = cut(wide, Path("a.jpg"))
    assert found is not None and found.shape == (112, 112, 3)
    assert cut(np.full((90, 90, 3), 128, np.uint8), Path("wall.png")) is None
    assert cut.sha256()[:12] in cut.description and file.name in cut.description
