"""Tables of embeddings: both formats hold the same rows, and a call goes on where the last one stopped."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.toy_faces import DIM, crop, write_model, write_people
from zoo.errors import InputError
from zoo.faces.finder import FaceCrop
from zoo.formats.images import encode_png
from zoo.recognition import FaceVerifier, embed_to_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one of them damaged."""
    people = write_people(tmp_path / "people", {"a": [(1, 0), (2, 0)], "b": [(3, 0), (4, 0)]})
    (people / "a" / "1.png").write_bytes(b"damaged")
    return people


@pytest.fixture
def verifier(tmp_path: Path) -> FaceVerifier:
    return FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)


def test_the_table_has_each_pictures_embedding_and_its_measures(
    folder: Path, verifier: FaceVerifier, tmp_path: Path
) -> None:
    table = embed_to_table([folder], tmp_path / "t.npz", verifier)
    assert (table.pictures, table.embedded_now, table.faces, len(table.failures)) == (4, 4, 3, 1)
    assert "1.png" in table.failures[0] and json.loads(table.to_json())["failed"] == 1
    with np.load(table.path) as arrays:
        for row, (path, seed) in enumerate((("a/0.png", 1), ("b/0.png", 3), ("b/1.png", 4))):
            assert arrays["path"][row] == str(folder / path)
            np.testing.assert_allclose(arrays["embedding"][row], verifier.embed(crop(seed)), atol=1e-6)
            assert arrays["blur"][row] == verifier.crop(crop(seed)).quality.blur
        assert np.isnan(arrays["box"]).all() and np.isnan(arrays["turn"]).all() and (arrays["norm"] > 0).all()
        assert arrays["landmarks"].shape == (3, 5, 2)
    assert not (tmp_path / "t.npz.partial").exists()


def test_parquet_holds_the_same_rows(folder: Path, verifier: FaceVerifier, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for name in ("t.npz", "t.parquet"):
        embed_to_table([folder], tmp_path / name, verifier)
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    with np.load(tmp_path / "t.npz") as table:
        good = [row for row in rows if row["reason"] is None]
        assert [row["path"] for row in good] == table["path"].tolist()
        np.testing.assert_array_equal(np.array([row["embedding"] for row in good], np.float32), table["embedding"])
        assert [row["path"] for row in rows if row["reason"]] == table["failed"].tolist()


def test_a_table_without_a_usable_picture_is_written_too(folder: Path, verifier: FaceVerifier, tmp_path: Path) -> None:
    assert embed_to_table([folder / "a" / "1.png"], tmp_path / "t.npz", verifier).faces == 0
    with np.load(tmp_path / "t.npz") as table:
        assert table["embedding"].shape == (0, DIM) and len(table["failed"]) == 1


def test_an_existing_table_is_replaced_only_on_request(folder: Path, verifier: FaceVerifier, tmp_path: Path) -> None:
    out = tmp_path / "t.npz"
    embed_to_table([folder], out, verifier)
    before = out.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        embed_to_table([folder / "b"], out, verifier)
    assert out.read_bytes() == before
    assert embed_to_table([folder / "b"], out, verifier, overwrite=True).faces == 2


def test_other_formats_and_folders_without_pictures_are_refused(verifier: FaceVerifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.npz or \.parquet"):
        embed_to_table([tmp_path], tmp_path / "t.csv", verifier)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        embed_to_table([tmp_path / "empty"], tmp_path / "t.npz", verifier)
    assert not (tmp_path / "t.npz.partial").exists()


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet", "hub"])
def test_the_shards_of_any_source_are_together_the_whole(kind: str, tmp_path: Path) -> None:
    verifier = FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)
    folder = write_people(tmp_path / "people", {"a": [(1, 0), (2, 0), (3, 0)], "b": [(4, 0), (5, 0), (6, 0), (7, 0)]})
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    source: Path | str = tmp_path / f"set.{kind}"
    if kind == "tar":
        with tarfile.open(source, "w") as file:
            for number, content in enumerate(contents):
                for suffix, part in (("png", content), ("cls", b"0")):
                    member = tarfile.TarInfo(f"{number:04}.{suffix}")
                    member.size = len(part)
                    file.addfile(member, io.BytesIO(part))
    elif kind == "parquet":
        pq.write_table(pa.table({"image": contents, "label": [0] * 7}), source)
    elif kind == "hub":  # `datasets` takes a local folder for a repository
        pytest.importorskip("datasets")
        images = [{"bytes": content, "path": None} for content in contents]
        (tmp_path / "repository").mkdir()
        pq.write_table(pa.table({"image": images, "label": [0] * 7}), tmp_path / "repository" / "a.parquet")
        source = f"hf://datasets/{tmp_path}/repository"
    else:
        source = folder
    whole = embed_to_table([source], tmp_path / "whole.npz", verifier)
    assert (whole.pictures, whole.faces, whole.failures) == (7, 7, ())
    parts = [embed_to_table([source], tmp_path / f"{i}.npz", verifier, shard=(i, 3)) for i in (1, 2, 3)]
    assert sorted(part.faces for part in parts) == [2, 2, 3]
    with np.load(tmp_path / "whole.npz") as table:
        expected = dict(table)
    assert len(set(expected["path"].tolist())) == 7
    for column in ("path", "sha256", "embedding"):
        found = np.concatenate([np.load(tmp_path / f"{i}.npz")[column] for i in (1, 2, 3)])
        np.testing.assert_array_equal(found, expected[column])
    assert expected["sha256"].tolist() == [hashlib.sha256(content).hexdigest() for content in contents]


def test_a_set_in_a_file_is_resumed_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)
    pq.write_table(
        pa.table({"image": [encode_png(crop(n)) for n in range(70)], "label": [0] * 70}), tmp_path / "s.parquet"
    )
    embed, calls = FaceVerifier.embed_with_norms, []

    def interrupted(self: FaceVerifier, crops: list[FaceCrop]) -> object:
        calls.append(len(crops))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(self, crops)

    monkeypatch.setattr(FaceVerifier, "embed_with_norms", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_to_table([tmp_path / "s.parquet"], tmp_path / "t.npz", verifier)
    done = embed_to_table([tmp_path / "s.parquet"], tmp_path / "t.npz", verifier)
    assert (done.faces, done.embedded_now) == (70, 70 - calls[0])


def test_a_shard_that_is_none_is_refused(tmp_path: Path) -> None:
    verifier = FaceVerifier(write_model(tmp_path / "model.onnx"), aligned=True)
    folder = write_people(tmp_path / "people", {"a": [(1, 0)]})
    for wrong in ((0, 3), (4, 3)):
        with pytest.raises(InputError, match="expected a shard from 1/3 to 3/3"):
            embed_to_table([folder], tmp_path / "t.npz", verifier, shard=wrong)
    with pytest.raises(InputError, match="expected pictures"):
        embed_to_table([folder], tmp_path / "t.npz", verifier, shard=(1, 2))
