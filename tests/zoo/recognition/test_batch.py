"""Many pictures: found in order, embedded in batches as alone, and again only where they changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model, write_people
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.recognition import batch
from zoo.recognition.batch import embed_pictures, found_in, pictures_in
from zoo.recognition.journal import Journal
from zoo.recognition.verifier import FaceVerifier


@pytest.fixture
def verifier(tmp_path: Path) -> FaceVerifier:
    return FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)


def test_pictures_come_in_sorted_order_below_folders_and_as_named(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a/x/9.webp", "a/y.heic", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    named = tmp_path / "a" / "notes.txt"
    found = [str(path.relative_to(tmp_path)) for path in pictures_in([named, tmp_path])]
    assert found == ["a/notes.txt", "a/y.heic", "a/x/9.webp", "b/1.JPG", "b/2.png"]
    with pytest.raises(InputError, match="found neither"):
        list(pictures_in([tmp_path / "gone"]))


@pytest.mark.parametrize(("size", "workers"), [(1, 1), (3, 2), (32, 0)])
def test_batches_of_any_size_give_each_picture_its_own_embedding(
    size: int, workers: int, verifier: FaceVerifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH", size)
    folder = write_people(tmp_path / "people", {"a": [(n, 0) for n in range(5)], "b": [(9, 0)]})
    (folder / "b" / "damaged.png").write_bytes(b"damaged")
    told: list[int] = []
    with Journal(tmp_path / "journal", {}) as journal:
        assert embed_pictures(verifier, pictures_in([folder]), journal, workers=workers, progress=told.append) == 7
        found = list(found_in(journal))
    assert sum(told) == 7
    assert [Path(one.path).name for one in found] == [*(f"{n}.png" for n in range(5)), "0.png", "damaged.png"]
    for one, seed in zip(found, [0, 1, 2, 3, 4, 9], strict=False):
        np.testing.assert_allclose(one.embeddings[0], verifier.embed(crop(seed)), atol=1e-6)
        assert one.faces[0]["quality"] == asdict(verifier.crop(crop(seed)).quality)
        assert one.shown == 0 and not one.reason
    assert found[-1].faces == () and "damaged.png" in found[-1].reason


def test_a_picture_that_changed_between_two_runs_is_embedded_again(verifier: FaceVerifier, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(encode_png(crop(1)))
    with Journal(tmp_path / "journal", verifier.how()) as journal:
        assert embed_pictures(verifier, [picture], journal) == 1
        assert embed_pictures(verifier, [picture], journal) == 0
        picture.write_bytes(encode_png(crop(2)))
        assert embed_pictures(verifier, [picture], journal) == 1
        (found,) = found_in(journal)
        np.testing.assert_array_equal(found.embeddings[0], verifier.embed(crop(2)))


def test_a_record_names_its_person_and_what_limits_its_use(tmp_path: Path) -> None:
    verifier = FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)
    large = tmp_path / "large.png"
    large.write_bytes(encode_png(crop(1, (224, 224))))
    with Journal(tmp_path / "journal", {}) as journal:
        embed_pictures(verifier, [large], journal, people={large: "Ada"})
        assert [record["person"] for record in journal.records()] == ["Ada"]
        (found,) = found_in(journal)
    assert found.notes == (f"{large} is 224×224, resized to 112×112",)
