"""Galleries: templates against the mean, files of today and earlier, removal, and what may be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.toy_faces import DIM, unit_rows, write_model
from zoo.errors import InputError
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition.gallery import ARRAYS, FORMAT

FACTS: dict[str, str | bool] = {"model": "m", "flip": True, "alignment": "arcface-5-points"}


def digest(number: int) -> str:
    return f"{number:064x}"


def gallery_of(people: int, dim: int = 7, seed: int = 0) -> Gallery:
    rows = unit_rows(people, dim, seed)
    return Gallery.empty(dim, FACTS).extended((f"person {i}", digest(i), row) for i, row in enumerate(rows))


def test_a_template_is_the_normalised_mean_whether_photos_come_at_once_or_later() -> None:
    photos = unit_rows(5, 7, 2)
    at_once = Gallery.empty(7, FACTS).extended(("ada", digest(i), row) for i, row in enumerate(photos))
    later = Gallery.empty(7, FACTS).extended([("ada", digest(0), photos[0])])
    later = later.extended([("bob", digest(9), photos[1]), ("ada", digest(1), photos[1])])
    later = later.extended(("ada", digest(i), photos[i]) for i in (2, 3, 4))
    mean = photos.astype(np.float64).mean(0)
    for gallery in (at_once, later):
        np.testing.assert_allclose(gallery.templates[0], mean / np.linalg.norm(mean), atol=1e-6)
        assert gallery.photos[0] == 5
    assert later.names() == ["ada", "bob"]


def test_a_photo_that_a_person_has_already_counts_once() -> None:
    row = unit_rows(1, 7, 3)[0]
    gallery = Gallery.empty(7, FACTS).extended([("ada", digest(1), row)] * 3).extended([("ada", digest(1), row)])
    assert gallery.photos.tolist() == [1] and len(gallery.photo_hashes) == 1


def test_photos_that_cancel_out_are_refused() -> None:
    row = unit_rows(1, 7, 3)[0]
    with pytest.raises(InputError, match="'ada', found ones that cancel"):
        Gallery.empty(7, FACTS).extended([("ada", digest(1), row), ("ada", digest(2), -row)])


def test_a_removed_person_leaves_nothing_behind(tmp_path: Path) -> None:
    gallery = gallery_of(5).extended([("person 3", digest(77), unit_rows(1, 7, 9)[0])])
    rest = gallery.remove(["person 3"])
    assert rest.names() == [f"person {i}" for i in (0, 1, 2, 4)]
    assert [photo for _, photo in rest.owned()] == [digest(i) for i in (0, 1, 2, 4)]
    np.testing.assert_array_equal(rest.templates, gallery.templates[[0, 1, 2, 4]])
    rest.save(tmp_path / "rest")
    content = (tmp_path / "rest").read_bytes()
    assert b"person 3" not in content and bytes.fromhex(digest(77)) not in content
    assert gallery.templates[3].tobytes() not in content
    # what is left can still be added to
    again = rest.extended([("person 4", digest(4), gallery.templates[4]), ("new", digest(50), unit_rows(1, 7, 8)[0])])
    assert again.photos.tolist() == [1, 1, 1, 1, 1] and again.names()[-1] == "new"


def test_removing_somebody_unknown_is_refused() -> None:
    with pytest.raises(InputError, match="no Person 3"):
        gallery_of(5).remove(["Person 3"])


def test_a_saved_gallery_opens_as_memory_maps_with_every_name(tmp_path: Path) -> None:
    names = ["Ada", "Žofie", "李", "", "ada"]
    rows = unit_rows(5, 7, 4)
    gallery = Gallery.empty(7, FACTS).extended(
        (n, digest(i), r) for i, (n, r) in enumerate(zip(names, rows, strict=True))
    )
    gallery.save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    assert isinstance(opened.templates, np.memmap)
    assert opened.names() == names == [opened.name(i) for i in range(5)]
    assert opened.facts == FACTS and opened.owned() == gallery.owned()
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), getattr(gallery, name))


def test_a_gallery_is_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    gallery = gallery_of(5)
    gallery.save(tmp_path / "g")
    np.testing.assert_array_equal(load_file(tmp_path / "g")["templates"], gallery.templates)


def test_a_gallery_can_be_replaced_while_it_is_open(tmp_path: Path) -> None:
    gallery_of(5).save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    before = opened.templates.copy()
    opened.remove(["person 0"]).save(tmp_path / "g")
    np.testing.assert_array_equal(opened.templates, before)
    assert len(Gallery.open(tmp_path / "g")) == 4


def test_every_truncation_and_any_other_file_is_refused(tmp_path: Path) -> None:
    gallery_of(5).save(tmp_path / "g")
    content = (tmp_path / "g").read_bytes()
    for length in [*range(0, 700, 13), len(content) - 1]:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(InputError, match="cut"):
            Gallery.open(tmp_path / "cut")
    (tmp_path / "text").write_text("people: ada, bob")
    with pytest.raises(InputError, match="zoo index"):
        Gallery.open(tmp_path / "text")


@pytest.mark.parametrize("key", ["model", "flip", "alignment"])
def test_an_index_of_another_model_or_way_of_working_is_refused(key: str, tmp_path: Path) -> None:
    verifier = FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)
    facts = {**verifier.how(), "detector": "any"}
    Gallery.empty(DIM, facts).require(verifier)
    with pytest.raises(InputError, match=f"another {key}"):
        Gallery.empty(DIM, {**facts, key: "other"}).require(verifier)


def test_a_gallery_whose_faces_an_earlier_version_found_is_used_with_a_note(shared: Path) -> None:
    models = shared / "models"
    verifier = FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx")
    assert Gallery.empty(verifier.dim, verifier.how()).require(verifier) == []
    earlier = {key: value for key, value in verifier.how().items() if key != "finder"}
    (note,) = Gallery.empty(verifier.dim, earlier).require(verifier)
    assert "found by an earlier version: index the photos again" in note


def test_a_photo_is_taken_out_as_if_it_had_never_been_there(tmp_path: Path) -> None:
    rows = unit_rows(4, 7, 2)
    photos = [("ada", digest(1), rows[0]), ("bob", digest(2), rows[1]), ("ada", digest(3), rows[2])]
    gallery = Gallery.empty(7, FACTS).extended(photos)
    gallery.save(tmp_path / "g")
    rest = Gallery.open(tmp_path / "g").without([("ada", digest(1)), ("bob", digest(2))])
    never = Gallery.empty(7, FACTS).extended(photos[2:])
    assert rest.names() == ["ada"] and rest.owned() == [("ada", digest(3))] and rest.photos.tolist() == [1]
    np.testing.assert_allclose(rest.templates, never.templates, atol=0.01)  # by the photo's 8-bit code
    assert gallery.owned()[0] == ("ada", digest(1)) and len(gallery) == 2


def test_agreement_is_the_mean_similarity_of_a_persons_photos() -> None:
    rows = unit_rows(5, 7, 6)
    photos = [("ada", digest(i), row) for i, row in enumerate(rows)]
    gallery = Gallery.empty(7, FACTS).extended([*photos, ("bob", digest(9), rows[0])])
    products = rows @ rows.T
    expected = (products.sum() - np.trace(products)) / 20
    np.testing.assert_allclose(gallery.agreement(), [expected, np.nan], atol=1e-6)


def test_a_gallery_of_earlier_versions_opens_is_searched_and_grows(tmp_path: Path) -> None:
    new = gallery_of(5)
    arrays = {name: getattr(new, name) for name in ARRAYS if name not in ("photo_values", "photo_scales")}
    arrays["photo_hashes"] = np.concatenate([new.photo_hashes, new.photo_hashes[4:] ^ 1])
    arrays["photo_people"], arrays["photos"] = np.int32([0, 1, 2, 3, 4, 4]), np.int32([1, 1, 1, 1, 2])
    save_file(arrays, tmp_path / "old", {"format": FORMAT, "facts": json.dumps(FACTS)})
    old = Gallery.open(tmp_path / "old")
    assert old.search(new.templates)[0].ravel().tolist() == [0, 1, 2, 3, 4] and old.uncoded() == set(old.names())
    grown = old.extended([("person 0", digest(50), unit_rows(1, 7, 8)[0])])
    assert (
        grown.photos.tolist() == [2, 1, 1, 1, 2] and grown.without([("person 1", digest(1))]).names()[1] == "person 2"
    )
    with pytest.raises(InputError, match="holds no embedding of each photo of 'person 4'"):
        grown.without([("person 4", digest(4))])


def test_the_codes_that_are_searched_first_are_stored(tmp_path: Path) -> None:
    gallery = gallery_of(5)
    gallery.save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    assert isinstance(vars(opened)["codes"].values, np.memmap)
    for stored, made in zip(vars(opened.codes).values(), vars(gallery.codes).values(), strict=True):
        np.testing.assert_array_equal(stored, made)
