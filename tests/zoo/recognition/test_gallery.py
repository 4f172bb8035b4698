"""Galleries: templates against the mean, files, removal, what may be compared, and what `zoo index` does, in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import DIM, crop, unit_rows, write_model, write_people, write_town
from zoo.errors import InputError
from zoo.faces.finder import FaceRule
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition.gallery import ARRAYS

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
    assert rest.hashes() == {digest(i) for i in (0, 1, 2, 4)}
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
    assert opened.facts == FACTS and opened.hashes() == gallery.hashes()
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


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_town(tmp_path)


@pytest.mark.parametrize("face", ["largest", "all"])
def test_people_are_indexed_identified_and_removed_in_python(town: Path, face: FaceRule) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True, face=face)
    gallery, added = Gallery.index("people", "g", verifier)
    assert (len(gallery), added) == (4, 5) and "no usable photo of Broken: not in the gallery" in gallery.notes
    again, added = Gallery.index("people", "g", verifier)
    assert added == 0 and again.photo_counts() == {"Ada": 2, "Bob": 1, "Eve": 1, "ada": 1}
    answer = Gallery.open("g").identify("bob.png", verifier, threshold=0.9, top=2)
    assert [one.name for one in answer.faces] == ["Bob"] and len(answer.faces[0].candidates) == 2
    assert json.loads(answer.to_json())["faces"][0]["identified"] == "Bob"
    assert Gallery.of("people", verifier).identify(crop(9), verifier, threshold=0.9).faces[0].name is None
    without = again.remove(["Bob"])
    assert without.identify("bob.png", verifier, threshold=0.9).faces[0].name is None and len(again) == 4
    more = without.add(write_people(town / "more", {"Zoe": [(5, 0)]}), verifier)
    assert more.identify(crop(5), verifier, threshold=0.9).faces[0].name == "Zoe"


def test_another_models_gallery_is_refused_by_every_use_and_stays(town: Path) -> None:
    gallery, _ = Gallery.index("people", "g", FaceVerifier("model.onnx", aligned=True))
    before = Path("g").read_bytes()
    other = FaceVerifier(write_model(town / "other.onnx", gain=2.0), aligned=True)
    uses = (
        lambda: Gallery.index("people", "g", other),
        lambda: gallery.add("people", other),
        lambda: gallery.identify("bob.png", other),
    )
    for use in uses:
        with pytest.raises(InputError, match="another model"):
            use()
    assert Path("g").read_bytes() == before and not Path("g.partial").exists()


def test_fewer_than_one_candidate_and_a_gallery_without_people_are_refused(town: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    gallery, _ = Gallery.index("people", "g", verifier)
    with pytest.raises(InputError, match="expected people in the gallery"):
        gallery.remove(gallery.names()).identify("bob.png", verifier)
    with pytest.raises(InputError, match="at least 1 person, found 0"):
        Gallery.of("people", verifier).identify("bob.png", verifier, top=0)
