"""Faces taken out of pictures: what is a picture, what an aligned crop, which face is taken, and what is refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from tests.support.toy_faces import crop
from zoo.errors import InputError
from zoo.faces.align import ARCFACE_TEMPLATE, align
from zoo.faces.finder import DetectorCut, FaceFinder, LandmarkCut, NoFace, align_or_none, read_picture
from zoo.formats.images import encode_png, read_image, resized


@pytest.fixture(scope="module")
def finder(shared: Path) -> FaceFinder:
    return FaceFinder(shared / "models" / "face_detection_yunet_2026may.onnx")


def test_arrays_that_are_no_pictures_are_refused() -> None:
    grey, floats = np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3))
    for wrong in (grey, floats, np.zeros((0, 0, 3), np.uint8)):
        with pytest.raises(InputError, match="RGB uint8"):
            FaceFinder(aligned=True).crop(wrong)  # type: ignore[arg-type]


def test_every_kind_of_picture_gives_the_same_pixels_upright(tmp_path: Path) -> None:
    pixels, exif = crop(1, (112, 90)), Pillow.Exif()
    exif[0x0112] = 6  # a quarter turn
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG", exif=exif)
    path = tmp_path / "turned.png"
    path.write_bytes(file.getvalue())
    expected = np.rot90(pixels, -1)
    for picture in (
        str(path),
        path,
        file.getvalue(),
        bytearray(file.getvalue()),
        io.BytesIO(path.read_bytes()),
        Pillow.open(path),
    ):
        found, name = read_picture(picture)
        np.testing.assert_array_equal(found, expected)
        assert name == (str(path) if isinstance(picture, str | Path) else "the picture")
    assert read_picture(pixels)[0] is pixels


@pytest.mark.parametrize("wrong", [None, [1, 2], 3.5, io.StringIO("text"), object()])
def test_what_is_no_picture_is_refused_with_its_type(wrong: object) -> None:
    found = "str" if isinstance(wrong, io.StringIO) else type(wrong).__name__
    with pytest.raises(InputError, match=f"as a path, bytes, a file opened in binary mode, .* found {found}"):
        read_picture(wrong)


def test_a_url_is_refused_with_the_reason() -> None:
    with pytest.raises(
        InputError, match=r"found the URL https://x\.org/a\.jpg: no picture is fetched from the network"
    ):
        read_picture("https://x.org/a.jpg")


@pytest.mark.parametrize("orientation", [None, 6])
def test_a_jpeg_that_the_library_mends_silently_is_noted_and_a_whole_one_is_not(orientation: int | None) -> None:
    exif = Pillow.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Pillow.fromarray(crop(1)).save(file, "JPEG", quality=95, exif=exif)
    whole = file.getvalue()
    finder = FaceFinder(aligned=True)
    assert finder.crop(whole).notes == ()
    middle = whole.rindex(b"\xff\xda") + 400
    damaged = whole[:middle] + b"\xff\x00" * 8 + whole[middle + 16 :]
    assert finder.crop(damaged, "a.jpg").notes == (
        "a.jpg is a damaged JPEG: what could be read of it was used; fetch it again",
    )


def test_crops_compare_hash_and_print_without_their_pixels() -> None:
    one, same, other = (FaceFinder(aligned=True).crop(crop(seed), "x") for seed in (1, 1, 2))
    assert one == same and hash(one) == hash(same) and one != other and len(repr(one)) < 500


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="largest, central, all, found 'smallest'"):
        FaceFinder(face="smallest")  # type: ignore[arg-type]


def test_aligned_crops_of_another_size_are_resized_and_it_is_said() -> None:
    finder = FaceFinder(aligned=True)
    found = finder.crop(crop(1, (224, 224)), "large.png")
    np.testing.assert_array_equal(found.crop, resized(crop(1, (224, 224)), (112, 112)))
    assert found.face is None and found.notes == ("large.png is 224×224, resized to 112×112",)
    assert finder.crop(crop(1)).notes == ()


def test_a_photo_aligned_here_counts_as_aligned_and_a_small_photo_does_not(finder: FaceFinder, shared: Path) -> None:
    photo = shared / "photos" / "person_e_1.jpg"
    found = finder.crop(photo)
    assert found.face is not None
    again = finder.crop(found.crop)
    assert again.face is None and np.array_equal(again.crop, found.crop)
    thumbnail = np.asarray(cv2.resize(read_image(photo), (112, 112), interpolation=cv2.INTER_AREA), np.uint8)
    assert finder.crop(thumbnail).face is not None


def test_a_picture_without_a_face_is_refused_by_name_at_the_size_of_a_crop_too(
    finder: FaceFinder, tmp_path: Path
) -> None:
    for name, size in (("empty.png", (300, 400)), ("dot.png", (1, 1)), ("grey.png", (112, 112))):
        (tmp_path / name).write_bytes(encode_png(np.full((*size, 3), 200, np.uint8)))
        with pytest.raises(NoFace, match=rf"expected a face in .*{name}, found none .*--aligned"):
            finder.crop(tmp_path / name)
    assert FaceFinder(aligned=True).crop(tmp_path / "grey.png").face is None


def test_every_face_comes_from_left_to_right_and_the_choice_among_several_is_said(
    finder: FaceFinder, shared: Path
) -> None:
    couple = shared / "photos" / "group_couple.jpg"
    every = finder.taking("all").crops(couple)
    left, right = (one.face for one in every)
    assert left and right and left.centre[0] < right.centre[0] and every[0].notes == ()
    assert finder.taking("all").crop(couple).face is not None
    (note,) = finder.crop(couple).notes
    assert "group_couple.jpg shows 2 faces: the largest was taken, around (" in note


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
