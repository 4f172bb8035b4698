"""The gallery file: the newest for every reader, changed by one at a time, and a removed person is gone everywhere."""

from __future__ import annotations

import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import unit_rows, write_model
from zoo import FaceVerifier, Gallery
from zoo.errors import InputError
from zoo.recognition.journal import Journal, partial_of
from zoo.recognition.store import QdrantStore, StoreError
from zoo.serve.problems import Problem
from zoo.serve.shelf import AuditLog, Shelf, check_audit


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> FaceVerifier:
    return FaceVerifier(write_model(tmp_path_factory.mktemp("model") / "m.onnx"), aligned=True)


@pytest.fixture
def shelf(tmp_path: Path, verifier: FaceVerifier) -> Shelf:
    return Shelf(tmp_path / "people.gallery", verifier, writable=True, wait=120.0)


ROWS = unit_rows(64, 48, seed=1)


def test_another_shelf_on_the_file_sees_every_change_at_once(shelf: Shelf, verifier: FaceVerifier) -> None:
    other = Shelf(shelf.path, verifier, writable=True)
    for number in range(5):
        shelf.enrol(f"p{number}", f"{number:064x}", ROWS[number])
        assert other.current().names()[-1] == f"p{number}"
    other.remove("p2")
    assert shelf.current().names() == ["p0", "p1", "p3", "p4"]


def test_what_the_server_makes_is_for_its_owner_alone_and_what_it_finds_keeps_its_permissions(shelf: Shelf) -> None:
    def modes() -> set[int]:
        return {stat.S_IMODE(file.stat().st_mode) for file in shelf.path.parent.iterdir()}

    assert modes() == {0o600}
    shelf.enrol("Ada", "0" * 64, ROWS[0])
    shelf.enrol("Bob", "1" * 64, ROWS[1])
    assert modes() == {0o600} and len(list(shelf.path.parent.iterdir())) == 3
    shelf.path.chmod(0o640)
    shelf.remove("Ada")
    assert modes() == {0o600, 0o640}


def test_a_snapshot_that_was_taken_before_a_removal_still_reads(shelf: Shelf) -> None:
    for number in range(3):
        shelf.enrol(f"p{number}", f"{number:064x}", ROWS[number])
    before = shelf.current()
    shelf.remove("p1")
    assert before.names() == ["p0", "p1", "p2"]
    np.testing.assert_array_equal(before.search(ROWS[1:2])[0], [[1]])


def test_forty_enrolments_at_once_lose_none_and_the_log_tells_of_each(shelf: Shelf, verifier: FaceVerifier) -> None:
    shelves = [shelf, Shelf(shelf.path, verifier, writable=True, wait=120.0)]
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(lambda n: shelves[n % 2].enrol("Ada" if n % 2 else f"p{n}", f"{n:064x}", ROWS[n]), range(40))
        )
    gallery = shelf.current()
    assert gallery.photo_counts()["Ada"] == 20 and len(gallery) == 21 and all(change.audit for change in done)
    assert {photo for _, photo in gallery.owned()} == {f"{n:064x}" for n in range(40)}
    assert check_audit(shelf.audit.path)[0] == 40
    together = ROWS[1:40:2].astype(np.float64).sum(0)
    template = gallery.templates[gallery.names().index("Ada")]
    np.testing.assert_allclose(template, together / np.linalg.norm(together), atol=1e-5)


def test_one_photo_counts_once_however_often_it_is_sent(shelf: Shelf) -> None:
    first = shelf.enrol("Ada", "0" * 64, ROWS[0])
    again = shelf.enrol("Ada", "0" * 64, ROWS[0])
    assert (bool(first.audit), bool(again.audit), again.photos) == (True, False, 1)
    assert check_audit(shelf.audit.path)[0] == 1


def test_a_removed_person_is_in_no_file_beside_the_gallery_either(shelf: Shelf) -> None:
    shelf.enrol("Zaphod", "ab" * 32, ROWS[0])
    shelf.enrol("Trillian", "cd" * 32, ROWS[1])
    shelf.remove("Zaphod")
    left = b"".join(file.read_bytes() for file in shelf.path.parent.iterdir())
    assert b"Trillian" in left and b"Zaphod" not in left
    assert bytes.fromhex("cd" * 32) in left and bytes.fromhex("ab" * 32) not in left and b"ab" * 32 not in left
    assert ROWS[1].tobytes() in left and ROWS[0].tobytes() not in left


def test_one_photo_goes_and_the_person_with_the_last(shelf: Shelf) -> None:
    for number in range(3):
        shelf.enrol("Ada", f"{number:064x}", ROWS[number])
    with pytest.raises(Problem) as refused:
        shelf.remove("Ada", "f" * 64)
    assert refused.value.status == 404 and shelf.current().photo_counts() == {"Ada": 3}
    change = shelf.remove("Ada", f"{1:064x}")
    assert (change.people, change.photos, bool(change.audit)) == (1, 2, True)
    left = ROWS[[0, 2]].astype(np.float64).sum(0)
    np.testing.assert_allclose(shelf.current().templates[0], left / np.linalg.norm(left), atol=0.01)
    assert shelf.remove("Ada", f"{0:064x}").photos == 1
    assert shelf.remove("Ada", f"{2:064x}").people == 0 and not len(shelf.current())
    assert b"Ada" not in shelf.audit.key_file.read_bytes()
    assert shelf.audit.path.read_bytes().count(b'"remove photo"') == 3


def test_a_failed_write_leaves_the_gallery_and_the_log_says_so(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.enrol("Ada", "0" * 64, ROWS[0])

    def full(self: Gallery, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Gallery, "save", full)
        with pytest.raises(OSError):
            shelf.enrol("Bob", "1" * 64, ROWS[1])
    assert shelf.current().names() == ["Ada"]
    assert b'"enrol failed"' in shelf.audit.path.read_bytes() and check_audit(shelf.audit.path)[0] == 3
    shelf.enrol("Bob", "1" * 64, ROWS[1])
    assert shelf.current().names() == ["Ada", "Bob"]


def test_a_change_that_cannot_get_its_turn_is_refused_in_time(shelf: Shelf, verifier: FaceVerifier) -> None:
    hurried = Shelf(shelf.path, verifier, writable=True, wait=0.05)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with shelf._locked():
            held.set()
            release.wait(10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait(10)
        with pytest.raises(Problem) as refused:
            hurried.enrol("Ada", "0" * 64, ROWS[0])
        release.set()
    assert refused.value.status == 503
    assert hurried.enrol("Ada", "0" * 64, ROWS[0]).audit


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\0b", "x" * 201, ".", "..", " a", "a ", "a\u202eb", "\ufffd", "\ud800"]
)
def test_what_is_no_name_is_refused(shelf: Shelf, name: str) -> None:
    with pytest.raises(Problem) as refused:
        shelf.name_in(name)
    assert refused.value.status == 422


def test_a_name_is_one_however_its_accents_are_written(shelf: Shelf) -> None:
    composed, apart = "Zo\u00eb", "Zoe\u0308"
    assert shelf.name_in(apart) == composed
    shelf.enrol(apart, "0" * 64, ROWS[0])  # as a folder of macOS may have it
    assert shelf.name_in(composed) == apart and shelf.name_in(apart) == apart


def test_a_reader_changes_nothing_and_makes_no_file(tmp_path: Path, verifier: FaceVerifier) -> None:
    with pytest.raises(InputError, match="expected a gallery"):
        Shelf(tmp_path / "none.gallery", verifier, writable=False)
    assert not list(tmp_path.iterdir())


def test_a_gallery_of_another_model_is_refused(tmp_path: Path, shelf: Shelf) -> None:
    other = FaceVerifier(write_model(tmp_path / "other.onnx", gain=2.0), aligned=True)
    with pytest.raises(InputError, match="another model"):
        Shelf(shelf.path, other, writable=True)


def test_an_index_run_keeps_the_server_waiting_and_cannot_bring_a_removed_person_back(
    shelf: Shelf, verifier: FaceVerifier
) -> None:
    shelf.enrol("Ada", "1" * 64, ROWS[0])
    hurried = Shelf(shelf.path, verifier, writable=True, wait=0.05)
    pending = {"person": "Ada", "sha256": "2" * 64}
    with Journal(partial_of(shelf.path), verifier.how()) as journal:
        journal.append(pending)
        journal.append({**pending, "person": "Bob"})
        with pytest.raises(Problem, match="another change of the gallery is under way"):
            hurried.remove("Ada")
    hurried.remove("Ada")
    with Journal(partial_of(shelf.path), verifier.how()) as journal:
        assert [record["person"] for record in journal.records()] == ["Bob"]


@pytest.fixture
def shared(tmp_path: Path, verifier: FaceVerifier, monkeypatch: pytest.MonkeyPatch) -> list[Shelf]:
    """Two servers, each in a folder of its own, on one collection; the local mode stands in for their server."""
    client = pytest.importorskip("qdrant_client")
    one = client.QdrantClient(path=str(tmp_path / "store"))
    monkeypatch.setattr(client, "QdrantClient", lambda **options: one)
    shelves = [Shelf(f"qdrant:{tmp_path}/store/people", verifier, writable=True) for _ in range(2)]
    for number, shelf in enumerate(shelves):
        (tmp_path / f"{number}").mkdir()
        shelf.path = tmp_path / f"{number}" / "people"
        shelf.audit = AuditLog(shelf.path)
    return shelves


def test_servers_that_share_a_collection_lose_no_enrolment_and_log_their_own(shared: list[Shelf]) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(lambda n: shared[n % 2].enrol("Ada" if n % 4 else f"p{n}", f"{n:064x}", ROWS[n]), range(24))
        )
    store = shared[0].current()
    assert all(change.audit for change in done) and store.photo_counts()["Ada"] == 18 and len(store) == 7
    assert {photo for _, photo in store.owned()} == {f"{n:064x}" for n in range(24)}
    for number, shelf in enumerate(shared):
        lines = [json.loads(line) for line in shelf.audit.path.read_text().splitlines()]
        assert check_audit(shelf.audit.path)[0] == len(lines)
        made = sum(line["action"] == "enrol" for line in lines) - sum("failed" in line["action"] for line in lines)
        assert made == 12, f"server {number} made 12 enrolments"


def test_who_is_removed_on_one_server_is_gone_from_the_other_and_from_its_keys(shared: list[Shelf]) -> None:
    ours, theirs = shared
    for number, shelf in enumerate(shared):
        shelf.enrol("Zaphod", f"{number:064x}", ROWS[number])
    assert theirs.photos(theirs.current(), "Zaphod") == [f"{n:064x}" for n in range(2)]
    assert ours.enrol("Zaphod", "0" * 64, ROWS[0]).audit == ""
    assert ours.remove("Zaphod", "0" * 64).photos == 1
    done = ours.remove("Zaphod")
    assert (done.people, done.photos, bool(done.audit)) == (0, 0, True)
    for gone in (lambda: theirs.photos(theirs.current(), "Zaphod"), lambda: theirs.remove("Zaphod")):
        with pytest.raises(Problem, match="found none of that name"):
            gone()
    theirs.enrol("Trillian", "cd" * 32, ROWS[2])
    assert not any(b"Zaphod" in file.read_bytes() for shelf in shared for file in shelf.path.parent.iterdir())
    assert ours.name_in("Trillian") == "Trillian"


def test_a_collection_that_does_not_answer_is_told_apart_from_a_wrong_request(shared: list[Shelf]) -> None:
    store = shared[0].current()
    assert isinstance(store, QdrantStore)
    store.client.delete_collection("people")
    with pytest.raises(StoreError, match="Qdrant does not answer as it should"):
        shared[0].enrol("Ada", "0" * 64, ROWS[0])
    assert not shared[0].audit.path.exists()


def lines(log: AuditLog) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    found = AuditLog(tmp_path / "people.gallery")
    for number, name in enumerate(["Ada", "Bob", "Ada", "Zoë"], 1):
        found.append("enrol", name, number, number)
    return found


def test_the_chain_holds_and_ends_with_the_hash_that_was_given(log: AuditLog) -> None:
    newest = log.append("remove", "Bob", 2, 3)
    assert check_audit(log.path) == (5, newest)
    assert stat.S_IMODE(log.path.stat().st_mode) == stat.S_IMODE(log.key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("harm", ["change", "take out", "swap", "add", "rehash"])
def test_whatever_is_done_to_a_line_breaks_the_chain(log: AuditLog, harm: str) -> None:
    told = log.path.read_bytes().splitlines(keepends=True)
    if harm == "change":
        told[1] = told[1].replace(b"enrol", b"enrxl")
    elif harm == "take out":
        del told[1]
    elif harm == "swap":
        told[1], told[2] = told[2], told[1]
    elif harm == "add":
        told.insert(1, told[0])
    else:
        from zoo.serve.shelf import digest

        record = json.loads(told[1]) | {"action": "remove"}
        told[1] = json.dumps({**record, "hash": digest(record)}).encode() + b"\n"
    log.path.write_bytes(b"".join(told))
    with pytest.raises(InputError, match="unbroken chain"):
        check_audit(log.path)


def test_a_log_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"audit log at .*absent"):
        check_audit(tmp_path / "absent")


def test_no_name_is_in_the_log_and_one_person_keeps_one_hash_until_removed(log: AuditLog) -> None:
    people = [line["person"] for line in lines(log)]
    assert people[0] == people[2] and len({*people}) == 3
    assert not any(name in log.path.read_text() for name in ("Ada", "Bob", "Zo"))
    log.append("remove", "Ada", 2, 2)
    log.keep(["Bob", "Zoë"])
    assert lines(log)[-1]["person"] == people[0], "the removal is the same person's"
    assert "Ada" not in log.key_file.read_text() and "Bob" in log.key_file.read_text()
    log.append("enrol", "Ada", 3, 3)
    assert lines(log)[-1]["person"] != people[0], "nothing links who comes back to what was removed"


def test_what_a_killed_process_left_half_written_is_cut_off(log: AuditLog) -> None:
    with open(log.path, "ab") as file:
        file.write(b'{"time": "2026-')
    newest = log.append("enrol", "Eve", 4, 5)
    assert check_audit(log.path) == (5, newest)


def test_a_place_that_cannot_be_written_is_named_at_once(tmp_path: Path, verifier: FaceVerifier) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*people\.gallery\.partial"):
        Shelf(tmp_path / "missing" / "people.gallery", verifier, writable=True, wait=3600)
    with Journal(partial_of(tmp_path / "people.gallery"), None), pytest.raises(Problem):  # held by another process
        Shelf(tmp_path / "people.gallery", verifier, writable=True, wait=0)
