"""A collection of Qdrant, by its local mode, holds what a gallery file holds, also where several change it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.support.town import town, verifier
from tests.support.toy_faces import crop, write_model
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition import index as index_module
from zoo.recognition.identify import identify
from zoo.recognition.index import index, prune
from zoo.recognition.store import QdrantStore, store_at

__all__ = ["town", "verifier"]
PLACE = "qdrant:store/people"


@pytest.fixture(autouse=True)
def _one_client_per_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local mode lets a folder be opened once: the calls of a test share a client, as services share a server."""
    client = pytest.importorskip("qdrant_client")
    opened: dict[str, object] = {}
    real = client.QdrantClient

    def shared(**options: str) -> object:
        if str(options) not in opened:
            opened[str(options)] = real(**options)
        return opened[str(options)]

    monkeypatch.setattr(client, "QdrantClient", shared)


def everything(place: str) -> dict[str, tuple[set[str], np.ndarray, float]]:
    """Each person's photos, template and length."""
    store = store_at(place)
    gallery = store if isinstance(store, Gallery) else store._gallery(list(store._points(None)))
    photos = {name: {digest for owner, digest in gallery.owned() if owner == name} for name in gallery.names()}
    rows = zip(gallery.names(), gallery.templates, gallery.lengths, strict=True)
    return {name: (photos[name], template, float(length)) for name, template, length in rows}


def assert_same(place: str, file: str) -> None:
    """A collection and a file hold the same."""
    ours, theirs = everything(place), everything(file)
    assert ours.keys() == theirs.keys() == store_at(place).photo_counts().keys()
    for name, (photos, template, length) in ours.items():
        assert photos == theirs[name][0]
        np.testing.assert_allclose(template, theirs[name][1], atol=1e-6)
        assert length == pytest.approx(theirs[name][2], abs=1e-6)


def test_a_collection_holds_what_a_file_holds_through_every_change(town: Path, verifier: FaceVerifier) -> None:
    def both(**options: bool) -> None:
        ours, theirs = index(town, PLACE, verifier, **options), index(town, "g", verifier, **options)
        assert (ours.added, ours.removed) == (theirs.added, theirs.removed)
        assert ours.gallery.notes == theirs.gallery.notes
        assert_same(PLACE, "g")

    both()
    both()
    (town / "Ada" / "0.png").rename(town / "Bob" / "moved.png")
    (town / "Carla").rename(town / "Clara")
    (town / "Bob" / "0.png").write_bytes(encode_png((255 - crop(3, noise=1)).astype(np.uint8)))
    both()
    both(sync=True)
    photo = hashlib.sha256((town / "Bob" / "1.png").read_bytes()).hexdigest()
    for place in (PLACE, "g"):
        done = prune(place, ["Clara"], [photo, town / "Bob" / "moved.png"])
        assert done.removed == 3 and "Clara" not in done.gallery.photo_counts()
    assert_same(PLACE, "g")


def test_faces_are_identified_as_in_a_file_by_name_rank_and_cosine(town: Path, verifier: FaceVerifier) -> None:
    index(town, PLACE, verifier)
    index(town, "g", verifier)
    asked = crop(3, noise=9)
    ours = store_at(PLACE).identify(asked, verifier, threshold=0.5, top=9)
    theirs = identify(store_at("g"), asked, verifier, threshold=0.5, top=9)
    assert ours.faces[0].name == theirs.faces[0].name == "Bob" and ours.people == theirs.people == 3
    assert [name for name, _ in ours.faces[0].candidates] == [name for name, _ in theirs.faces[0].candidates]
    cosines = [[cosine for _, cosine in answer.faces[0].candidates] for answer in (ours, theirs)]
    np.testing.assert_allclose(*cosines, atol=1e-6)


def test_who_is_removed_leaves_neither_name_nor_photo_nor_vector(town: Path, verifier: FaceVerifier) -> None:
    index(town, PLACE, verifier)
    prune(PLACE, ["Bob"])
    store = store_at(PLACE)
    assert isinstance(store, QdrantStore) and len(store) == 2
    left = list(store._points(None))
    assert sorted(point.payload["name"] for point in left) == ["Ada", "Carla"]
    answer = identify(store, town / "Bob" / "0.png", verifier, threshold=0.99, top=9)
    assert "Bob" not in dict(answer.faces[0].candidates) and answer.faces[0].name is None
    for wrong in ("Bob", "bob"):
        with pytest.raises(InputError, match=f"found no {wrong}"):
            prune(PLACE, [wrong])


def test_who_is_removed_while_a_run_is_under_way_stays_removed(
    town: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal comes between the reading of a person and the writing, with a new photo of each in the folder."""
    index(town, PLACE, verifier)
    for name, person in (("Ada", 1), ("Bob", 3)):
        (town / name / "new.png").write_bytes(encode_png(crop(person, noise=8)))
    kept = town / "Bob" / "0.png"
    real, calls = index_module.enrol, []

    def crossed(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            prune(PLACE, ["Ada"], [kept])
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "enrol", crossed)
    done = index(town, PLACE, verifier)
    assert len(calls) == 2, "the run was not made again on what the removal left"
    assert done.gallery.photo_counts() == {"Bob": 2, "Carla": 1} == store_at(PLACE).photo_counts()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() not in {digest for _, digest in store_at(PLACE).owned()}
    assert "Ada was removed while this run was under way: left out" in done.gallery.notes


def test_two_services_that_enrol_the_same_person_lose_no_photo(town: Path, verifier: FaceVerifier) -> None:
    """Old or new, whichever writes first."""
    store = QdrantStore.at(PLACE, verifier)
    rows = verifier.embed_many([crop(1, noise=n) for n in range(4)])
    photos = [("Ada", f"{n:064x}", row) for n, row in enumerate(rows)]
    for first, second in ((0, 1), (2, 3)):
        crossed = []

        def add(old: Gallery, first: int = first, second: int = second, crossed: list[int] = crossed) -> Gallery:
            if not crossed:
                crossed.append(1)
                store.change(["Ada"], lambda other: other.extended([photos[first]]))
            return old.extended([photos[second]])

        store.change(["Ada"], add)
    assert sorted(store.owned()) == [("Ada", f"{n:064x}") for n in range(4)]
    mean = rows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(everything(PLACE)["Ada"][1], mean / np.linalg.norm(mean), atol=1e-6)


def test_an_interrupted_run_goes_on_where_it_stopped(
    town: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PEOPLE_AT_ONCE", 1)
    real, seen = index_module.enrol, []

    def counted(verifier: FaceVerifier, people: dict[str, list[Path]], *rest: object) -> object:
        seen.extend(name for name, photos in people.items() if photos)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(verifier, people, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "enrol", counted)
    with pytest.raises(KeyboardInterrupt):
        index(town, PLACE, verifier)
    assert store_at(PLACE).photo_counts() == {"Ada": 2}
    seen.append("between")
    done = index(town, PLACE, verifier)
    assert done.added == 3 and seen[-2:] == ["Bob", "Carla"] and seen.count("Ada") == 1


def test_a_collection_outlives_its_process_and_belongs_to_one_at_a_time(town: Path, verifier: FaceVerifier) -> None:
    command = [sys.executable, "-m", "zoo", "index", "people", "-o", PLACE, "--model", "model.onnx", "--aligned"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "qdrant:store/people now holds 3 people with 5 photos" in done.stdout
    index(town, "g", verifier)
    assert_same(PLACE, "g")  # which opens it here
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "already accessed by another instance" in done.stderr


def test_a_collection_of_another_model_or_another_program_is_rejected(town: Path, verifier: FaceVerifier) -> None:
    from qdrant_client import models

    index(town, PLACE, verifier)
    write_model(town / "other.onnx", gain=2.0)
    other = FaceVerifier(town / "other.onnx", aligned=True)
    with pytest.raises(InputError, match="made with another model"):
        index(town, PLACE, other)
    with pytest.raises(InputError, match="made with another model"):
        identify(store_at(PLACE), crop(1), other)
    store = QdrantStore.at(PLACE)
    store.client.create_collection("others", models.VectorParams(size=4, distance=models.Distance.DOT))
    with pytest.raises(InputError, match="expected a collection of `zoo index` at qdrant:store/others"):
        index(town, "qdrant:store/others", verifier)
    with pytest.raises(InputError, match="Collection none not found"):
        store_at("qdrant:store/none")


def test_a_server_whose_writes_depend_on_nothing_is_rejected(verifier: FaceVerifier) -> None:
    """A stand-in tells its version, as a server does at its root."""

    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"title": "qdrant - vector search engine", "version": "1.16.3"}')

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Old) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"expected a server of version 1\.17, found 1\.16\.3"):
            QdrantStore.at(f"qdrant:http://127.0.0.1:{server.server_port}/people", verifier)
        server.shutdown()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("qdrant:people", "expected qdrant:URL/COLLECTION or qdrant:FOLDER/COLLECTION, found qdrant:people"),
        ("qdrant:nowhere/people", "expected people at qdrant:nowhere/people, found none; add some with `zoo index`"),
        ("qdrant:http://127.0.0.1:9/people", "expected people at qdrant:http://127.0.0.1:9/people, but Qdrant does"),
    ],
)
def test_a_place_without_people_is_named_and_nothing_is_made(place: str, message: str, town: Path) -> None:
    with pytest.raises(InputError, match=message):
        store_at(place)
    assert not Path("nowhere").exists()
