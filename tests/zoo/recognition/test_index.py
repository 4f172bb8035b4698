"""Galleries that follow their folders, and from which people and photos are taken out for good."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model, write_people, write_town
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition import index as module
from zoo.recognition.index import index, prune

PEOPLE = {"Ada": [(1, 1), (1, 2)], "Bob": [(3, 1), (3, 2)], "Carla": [(5, 1)]}


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    return write_people(tmp_path / "people", PEOPLE)


@pytest.fixture
def verifier(town: Path) -> FaceVerifier:
    return FaceVerifier("model.onnx", aligned=True)


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
