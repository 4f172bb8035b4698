"""ICT-FaceKit's files, and what is not them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoo.data.rendered import facekit
from zoo.data.rendered.facekit import EXPRESSIONS, USED, WHOLE, read_facekit
from zoo.errors import InputError


def mesh(points: np.ndarray) -> str:
    """A mesh as the repository stores it: vertices, texture places, quads with both numbers, and a triangle."""
    lines = [f"v {x} {y} {z}" for x, y, z in points.tolist()]
    return "\n".join(["# ICT", *lines, "vt 0 0", "f 1/1 2/1 3/1 4/1", "f 9/1 2/1 26719/1 4/1", "f 1/1 2/1 3/1", ""])


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up repository with two identities and two expressions."""
    monkeypatch.setattr(facekit, "IDENTITIES", 2)
    monkeypatch.setattr(facekit, "EXPRESSIONS", EXPRESSIONS[:2])
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    mean = np.arange(3 * WHOLE).reshape(-1, 3) % 97
    names = ("generic_neutral_mesh", "identity000", "identity001", *EXPRESSIONS[:2])
    for more, name in enumerate(names):
        (folder / f"{name}.obj").write_text(mesh(mean + more))
    return folder.parent


def test_a_clone_is_read_with_the_used_vertices_and_the_quads_between_them(clone: Path) -> None:
    kit = read_facekit(clone)
    assert np.array_equal(kit.vertices, (np.arange(3 * WHOLE).reshape(-1, 3) % 97)[USED])
    assert kit.quads.tolist() == [[0, 1, 2, 3]]  # the other one has a vertex of another part
    assert (kit.identity[0] == 1).all() and (kit.identity[1] == 2).all()
    assert (kit.expression[0] == 3).all() and (kit.expression[1] == 4).all()


def shortened(folder: Path) -> None:
    (folder / "FaceXModel/identity001.obj").write_text("v 1 2 3\nv 2 3 4\n")


def removed(folder: Path) -> None:
    (folder / f"FaceXModel/{EXPRESSIONS[1]}.obj").unlink()


def garbled(folder: Path) -> None:
    file = folder / "FaceXModel/generic_neutral_mesh.obj"
    file.write_text(file.read_text().replace("v 0 1 2", "v 0 one 2", 1))


def emptied(folder: Path) -> None:
    for file in (folder / "FaceXModel").iterdir():
        file.unlink()


def packed_of_nine(folder: Path) -> None:
    shapes = {
        "vertices": (9, 3),
        "quads": (3, 4),
        "identity": (2, 9, 3),
        "expression": (2, 9, 3),
        "expression_names": 2,
    }
    np.savez(folder / "ict_face.npz", **{name: np.zeros(shape) for name, shape in shapes.items()})  # type: ignore


def packed_of_nothing(folder: Path) -> None:
    (folder / "ict_face.npz").write_bytes(b"PK\x03\x04 and no more")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (shortened, "found 2"),
        (removed, f"no FaceXModel/{EXPRESSIONS[1]}.obj"),
        (garbled, "could not convert string to float"),
        (emptied, "no FaceXModel/generic_neutral_mesh.obj"),
        (packed_of_nine, "other numbers of vertices"),
        (packed_of_nothing, "zip"),
    ],
)
def test_damage_and_other_versions_are_one_sentence_with_the_repository(
    clone: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(clone)
    with pytest.raises(InputError) as caught:
        read_facekit(clone)
    sentence = str(caught.value)
    assert reason in sentence and "https://github.com/ICT-VGL/ICT-FaceKit" in sentence and "\n" not in sentence


def test_a_real_packed_copy_has_its_parts(shared: Path) -> None:
    kit = read_facekit(shared / "data/ict_face")
    assert kit.vertices.shape == (len(USED), 3) and kit.identity.shape == (100, len(USED), 3)
    assert set(kit.expression_names) <= set(EXPRESSIONS) and kit.quads.max() < len(USED)
