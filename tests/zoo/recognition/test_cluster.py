"""Clusters: average linkage against scipy's, corrections that last, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from tests.support.toy_faces import crop, unit_rows, write_model, write_people
from zoo.errors import InputError
from zoo.formats.images import read_image
from zoo.recognition import FaceVerifier, Gallery, embed_to_table
from zoo.recognition import cluster as module
from zoo.recognition.cluster import Faces, average_link, cluster
from zoo.recognition.threshold import decide


def crowd(people: int, photos: int, spread: float, seed: int, dim: int = 16) -> npt.NDArray[np.float32]:
    """Photos of people in random order, so far apart that clusters at 0.4 are not obvious."""
    centres = unit_rows(people, dim, seed)
    rows = np.repeat(centres, photos, axis=0) + spread * unit_rows(people * photos, dim, seed + 1)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def together(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray(labels[:, None] == labels[None])


@pytest.mark.parametrize("most", [0, 5, 1000])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("threshold", "spread"), [(0.4, 0.8), (0.2, 1.2), (0.7, 0.5)])
def test_clusters_are_those_of_scipys_average_linkage(
    seed: int, threshold: float, spread: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether neighbours are kept of no row, of those with few, or of all."""
    monkeypatch.setattr(module, "MOST_NEAR", most)
    monkeypatch.setattr(module, "BLOCK", 7)
    rows = crowd(12, 6, spread, seed)
    expected = fcluster(
        linkage(1 - (rows.astype(np.float64) @ rows.T)[np.triu_indices(72, 1)], "average"), 1 - threshold, "distance"
    )
    labels = average_link(rows, threshold)
    np.testing.assert_array_equal(together(labels), together(expected))
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all() and 1 < len(sizes) < 72


def test_what_no_neighbour_is_kept_of_is_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The neighbours above the threshold are what decides: without them nothing is merged."""
    rows = crowd(12, 6, 0.8, 0)
    monkeypatch.setattr(module, "_near", lambda rows, threshold: (np.array([row]) for row in range(len(rows))))
    assert len(np.bincount(average_link(rows, 0.4))) == 72


def test_equal_faces_are_one_cluster_and_one_face_is_one_too() -> None:
    assert average_link(np.repeat(unit_rows(1, 5, 0), 9, axis=0), 0.5).tolist() == [0] * 9
    assert average_link(unit_rows(1, 5, 0), 0.5).tolist() == [0]


@pytest.mark.parametrize("seed", range(10))
def test_corrections_always_hold(seed: int) -> None:
    rows, rng = crowd(8, 6, 0.9, seed), np.random.default_rng(seed)
    truth = rng.integers(0, 5, len(rows))
    pairs = rng.integers(0, len(rows), (30, 2))
    same = [(int(a), int(b)) for a, b in pairs if truth[a] == truth[b]]
    different = [(int(a), int(b)) for a, b in pairs if truth[a] != truth[b]]
    labels = average_link(rows, 0.3, same, different)
    assert all(labels[a] == labels[b] for a, b in same) and all(labels[a] != labels[b] for a, b in different)


def test_faces_that_must_be_apart_split_their_cluster_by_likeness() -> None:
    rows = np.concatenate([crowd(1, 5, 0.4, 3), crowd(1, 4, 0.4, 3)])
    assert set(average_link(rows, 0.3)) == {0}
    labels = average_link(rows, 0.3, different=[(0, 1)])
    assert labels[0] != labels[1] and len(set(labels)) == 2


def test_clusters_that_somebody_calls_the_same_are_merged_whole() -> None:
    rows = np.concatenate([crowd(1, 5, 0.4, 3), crowd(1, 4, 0.4, 30), crowd(1, 3, 0.4, 300)])
    assert len(set(average_link(rows, 0.5))) == 3
    assert average_link(rows, 0.5, same=[(0, 11)]).tolist() == [0] * 5 + [1] * 4 + [0] * 3
    labels = average_link(rows, 0.5, same=[(0, 11)], different=[(1, 10)])  # which the two clusters cannot both keep
    assert labels[0] == labels[11] and labels[1] != labels[10]


def test_corrections_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="both the same and different"):
        average_link(unit_rows(3, 5, 0), 0.5, [(0, 1), (1, 2)], [(0, 2)])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of embeddings of four people, in a folder without names."""
    folder = tmp_path_factory.mktemp("town")
    write_model(folder / "model.onnx")
    write_people(folder / "photos", {f"d{day}": [(person, day + 1) for person in range(4)] for day in range(3)})
    embed_to_table([folder / "photos"], folder / "t.npz", FaceVerifier(folder / "model.onnx", aligned=True))
    embed_to_table([folder / "photos"], folder / "t.parquet", FaceVerifier(folder / "model.onnx", aligned=True))
    return folder


AT = decide(None, None, 0.9)


@pytest.mark.parametrize("table", ["t.npz", "t.parquet"])
def test_people_of_a_table_are_found_and_folders_of_them_can_be_indexed(table: str, town: Path, tmp_path: Path) -> None:
    found = cluster(town / table, tmp_path / "people.json", AT)
    assert [sorted(Path(found.faces.names[face]).name for face in faces) for faces in found.people.values()] == [
        [f"{person}.png"] * 3 for person in range(4)
    ]
    told = json.loads((tmp_path / "people.json").read_text())
    assert list(told["people"]) == [f"person-{n:04}" for n in range(1, 5)] and told["threshold"] == 0.9
    found.write_folders(tmp_path / "people")
    verifier = FaceVerifier(town / "model.onnx", aligned=True, threshold=0.9)
    gallery = Gallery.of(tmp_path / "people", verifier)
    assert gallery.photo_counts() == {f"person-{n:04}": 3 for n in range(1, 5)}
    np.testing.assert_array_equal(
        read_image(min((tmp_path / "people" / "person-0002").glob("*.png"))), read_image(town / "photos/d0/1.png")
    )
    with pytest.raises(InputError, match="expected a new folder"):
        found.write_folders(tmp_path / "people")


def test_corrections_last_when_the_people_are_made_again(town: Path, tmp_path: Path) -> None:
    out, day = tmp_path / "people.json", [str(town / "photos" / f"d{day}") for day in range(3)]
    cluster(town / "t.npz", out, AT, different=[(f"{day[0]}/1.png", f"{day[1]}/1.png")])
    found = cluster(town / "t.npz", out, AT, same=[(f"{day[0]}/2.png", f"{day[0]}/3.png")])
    for again in (found, cluster(town / "t.npz", out, decide(None, None, 0.8))):
        whose = {again.faces.names[face]: name for name, faces in again.people.items() for face in faces}
        assert whose[f"{day[0]}/1.png"] != whose[f"{day[1]}/1.png"]
        assert len({whose[f"{one}/{person}.png"] for one in day for person in (2, 3)}) == 1
        assert len(again.same) == len(again.different) == 1


def test_a_page_shows_each_persons_faces_and_no_name_can_break_out_of_it(town: Path, tmp_path: Path) -> None:
    evil = tmp_path / '<img src=x onerror="1">.png'
    evil.write_bytes((town / "photos/d0/0.png").read_bytes())
    embed_to_table([evil, town / "photos"], tmp_path / "t.npz", FaceVerifier(town / "model.onnx", aligned=True))
    cluster(tmp_path / "t.npz", tmp_path / "people.json", AT).write_page(tmp_path / "people.html")
    page = (tmp_path / "people.html").read_text()
    assert page.count("<figure>") == 13 and page.count("data:image/jpeg;base64,/9j/") == 13
    assert "person-0001: 4" in page and "&lt;img src=x" in page and "<img src=x" not in page


def test_several_faces_of_a_photo_have_names_of_their_own(tmp_path: Path) -> None:
    rows = unit_rows(3, 8, 0)
    np.savez(tmp_path / "t.npz", path=["b.jpg", "a.jpg", "b.jpg"], landmarks=np.zeros((3, 5, 2)), embedding=rows)
    assert Faces.read(tmp_path / "t.npz").names == ("b.jpg#1", "a.jpg", "b.jpg#2")


def test_what_is_wrong_is_refused_and_leaves_the_people_as_they_were(town: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.json"
    cluster(town / "t.npz", out, AT)
    before = out.read_bytes()
    name = str(town / "photos/d0/1.png")
    with pytest.raises(InputError, match=r"found .*d0/11\.png; is it .*d0/1\.png\?"):
        cluster(town / "t.npz", out, AT, same=[(name.replace("1.png", "11.png"), name)])
    with pytest.raises(InputError, match="expected a threshold to sort faces by"):
        cluster(town / "t.npz", out, decide(None))
    with pytest.raises(InputError, match="expected a table of embeddings"):
        cluster(town / "model.onnx", out, AT)
    assert out.read_bytes() == before
    out.write_text("[]")
    with pytest.raises(InputError, match="expected people of `zoo cluster`"):
        cluster(town / "t.npz", out, AT)


def test_corrections_of_photos_that_are_gone_are_kept_and_told(town: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "people.json", [str(town / f"photos/d0/{n}.png") for n in range(2)]
    cluster(town / "t.npz", out, AT, different=[(names[0], names[1])])
    verifier = FaceVerifier(town / "model.onnx", aligned=True)
    embed_to_table([town / "photos/d1", town / "photos/d2"], tmp_path / "less.npz", verifier)
    found = cluster(tmp_path / "less.npz", out, AT)
    assert found.different == ((names[0], names[1]),) and "1 corrections are about faces" in found.notes[0]
    assert cluster(town / "t.npz", out, AT).notes == ()


def test_a_crop_is_cut_out_of_its_photo_again(shared: Path, tmp_path: Path) -> None:
    photo = shared / "photos" / "person_a_1.jpg"
    models = shared / "models"
    verifier = FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx")
    embed_to_table([photo], tmp_path / "t.npz", verifier)
    np.testing.assert_array_equal(Faces.read(tmp_path / "t.npz").crop(0), verifier.crop(photo).crop)
    assert crop(1).shape == (112, 112, 3)
