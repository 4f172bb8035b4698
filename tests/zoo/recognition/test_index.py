"""Galleries that follow their folders, and from which people and photos are taken out for good."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.town import town, verifier
from tests.support.toy_faces import crop, write_model, write_people, write_town
from zoo.errors import InputError
from zoo.formats.images import encode_png, read_image, resized
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition import index as module
from zoo.recognition.index import enrol, index, people_in, prune
from zoo.recognition.journal import Journal

__all__ = ["town", "verifier"]


def same(gallery: Gallery, other: Gallery) -> bool:
    """Whether two galleries hold the same people, photos and templates, in whatever order."""
    order, others = np.argsort(gallery.names()), np.argsort(other.names())
    return sorted(gallery.owned()) == sorted(other.owned()) and np.allclose(
        gallery.templates[order], other.templates[others], atol=0.01
    )


def moved(people: Path) -> None:
    (people / "Ada" / "0.png").rename(people / "Bob" / "moved.png")


def replaced(people: Path) -> None:
    (people / "Carla" / "0.png").write_bytes(encode_png(crop(8)))


def renamed(people: Path) -> None:
    (people / "Bob").rename(people / "Robert")


def deleted(people: Path) -> None:
    (people / "Ada" / "1.png").unlink()
    (people / "Carla" / "0.png").unlink()


@pytest.mark.parametrize("change", [moved, replaced, renamed, deleted])
def test_with_sync_a_gallery_becomes_what_its_folder_is(
    change: Callable[[Path], None], town: Path, verifier: FaceVerifier
) -> None:
    before = index(town, "g", verifier).gallery
    assert index(town, "g", verifier, sync=True).removed == 0 and same(Gallery.open("g"), before)
    change(town)
    kept = set(index(town, "without", verifier).gallery.owned())
    done = index(town, "g", verifier, sync=True)
    assert (
        done.removed >= 1 and same(Gallery.open("g"), Gallery.of(town, verifier)) and set(done.gallery.owned()) == kept
    )
    assert done.removed - done.added == len(before.owned()) - len(done.gallery.owned())


def test_without_sync_nothing_is_taken_out(town: Path, verifier: FaceVerifier) -> None:
    before = index(town, "g", verifier).gallery.owned()
    deleted(town)
    done = index(town, "g", verifier)
    assert (done.added, done.removed) == (0, 0) and done.gallery.owned() == before


def test_a_photo_that_cannot_be_read_now_is_no_reason_to_take_it_out(
    town: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index(town, "g", verifier).gallery.owned()
    monkeypatch.setattr(module, "_digest", lambda path: "")
    assert index(town, "g", verifier, sync=True).gallery.owned() == before


def test_only_people_without_a_usable_photo_are_said_to_have_none(town: Path, verifier: FaceVerifier) -> None:
    index(town, "g", verifier)
    (town / "Carla" / "0.png").write_bytes(b"damaged")
    (town / "Dan").mkdir()
    (town / "Dan" / "0.png").write_bytes(b"damaged")
    notes = index(town, "g", verifier).gallery.notes
    assert [note for note in notes if "no usable photo" in note] == ["no usable photo of Dan: not in the gallery"]


def test_people_whose_photos_disagree_are_noted(town: Path, verifier: FaceVerifier) -> None:
    assert not [note for note in index(town, "g", verifier).gallery.notes if "different people" in note]
    inverted = (255 - crop(1, noise=1)).astype(np.uint8)
    (town / "Ada" / "stranger.png").write_bytes(encode_png(inverted))
    (note,) = [note for note in index(town, "g", verifier).gallery.notes if "different people" in note]
    assert note.startswith("the photos of Ada look like different people (mean similarity ")


def test_people_and_photos_are_taken_out_by_name_file_and_hash(town: Path, verifier: FaceVerifier) -> None:
    index(town, "g", verifier)
    digest = hashlib.sha256((town / "Bob" / "0.png").read_bytes()).hexdigest()
    done = prune("g", ["Carla"], [town / "Ada" / "0.png", digest])
    assert done.removed == 3 and done.gallery.photo_counts() == {"Ada": 1, "Bob": 1}
    before = Path("g").read_bytes()
    for wrong in (["carla"], ["Adda"]):
        with pytest.raises(InputError, match=f"expected people or photos of the gallery, found no {wrong[0]}"):
            prune("g", wrong)
    with pytest.raises(InputError, match=r"found no people/Carla/0\.png"):
        prune("g", photos=["people/Carla/0.png"])
    assert Path("g").read_bytes() == before and not Path("g.partial").exists()


class Interrupted(BaseException):
    """Stands for kill -9: nothing after it runs but what closes files."""


def test_a_person_is_removed_from_what_an_interrupted_run_left_too(
    town: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(town, "g", verifier)
    write_people(town / "more", {"Zoe": [(9, 1)], "Carla": [(5, 3)]})

    def interrupted(self: Gallery, path: str | Path) -> None:
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Gallery, "save", interrupted)
        index(town / "more", "g", verifier)
    left = Path("g.partial").read_text()
    assert "Zoe" in left and "Carla" in left
    prune("g", ["Carla"])
    left = Path("g.partial").read_text()
    assert "Zoe" in left and "Carla" not in left
    prune("g", ["Zoe"])  # who was only in the journal
    assert not Path("g.partial").exists() and Gallery.open("g").names() == ["Ada", "Bob"]


@pytest.mark.parametrize("step", ["compare", "enrol", "save"])
def test_nobody_can_be_removed_while_an_index_run_is_at_work_and_afterwards_removal_lasts(
    step: str, town: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(town, "g", verifier)
    write_people(town, {"Zoe": [(9, 1)]})
    reached, go_on = threading.Event(), threading.Event()
    places = {"compare": (module, "_digest"), "enrol": (module, "enrol"), "save": (Gallery, "save")}
    place, name = places[step]
    original = getattr(place, name)

    def paused(*words: object, **options: object) -> object:
        reached.set()
        assert go_on.wait(60)
        return original(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, paused)
        running = threading.Thread(target=index, args=(town, "g", verifier))
        running.start()
        assert reached.wait(60)
        with pytest.raises(InputError, match=r"another process is working on g\.partial; wait for it"):
            prune("g", ["Carla"])
        go_on.set()
        running.join()
    assert "Carla" in Gallery.open("g").names() and "Zoe" in Gallery.open("g").names()
    prune("g", ["Carla"])
    assert "Carla" not in Gallery.open("g").names()
    assert b"Carla" not in Path("g").read_bytes()


def test_a_folder_without_a_usable_photo_and_another_model_leave_the_gallery_as_it_was(
    town: Path, verifier: FaceVerifier
) -> None:
    index(town, "g", verifier)
    before = Path("g").read_bytes()
    other = FaceVerifier(write_model(Path("other.onnx"), gain=2.0), aligned=True)
    with pytest.raises(InputError, match="another model"):
        index(town, "g", other)
    assert Path("g").read_bytes() == before and not Path("g.partial").exists()
    broken = Path("broken")
    (broken / "Ada").mkdir(parents=True)
    (broken / "Ada" / "0.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="expected at least one usable photo in broken, found none: "):
        index(broken, "new", verifier)
    assert not Path("new").exists()


def test_oddities_of_a_folder_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_town(tmp_path))
    done = index("people", "g", FaceVerifier("model.onnx", aligned=True))
    again = index("people", "g", FaceVerifier("model.onnx", aligned=True))
    assert again.added == 0 and again.gallery.photo_counts() == {"Ada": 2, "Bob": 1, "Eve": 1, "ada": 1}
    assert "no usable photo of Broken: not in the gallery" in done.gallery.notes


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


def test_names_that_differ_in_case_alone_are_said(tmp_path: Path) -> None:
    for name in ("Ada", "Bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
    assert people_in(tmp_path)[1] == []
    (tmp_path / "ADA").mkdir()
    (tmp_path / "ADA" / "1.jpg").touch()
    assert people_in(tmp_path)[1] == ["ADA and Ada differ in upper and lower case alone: kept as 2 people"]


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
