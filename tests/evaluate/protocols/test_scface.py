"""SCface: ranks by distance, the layouts in which it lies on disk, and an incomplete copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import find_benchmarks
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.benchmarks.runner import open_benchmarks
from zoo.evaluate.protocols import PROTOCOLS, SCfaceProtocol
from zoo.evaluate.report.rows import holds
from zoo.faces.finder import DetectorCut
from zoo.formats.images import encode_jpeg

NAMES = [f"{person:03}_cam{camera}_{distance}.jpg" for person in (1, 2, 7) for camera in (1, 5) for distance in (1, 3)]
MUGSHOTS = ["001_frontal.jpg", "002_frontal.jpg", "007_frontal.jpg"]


@pytest.fixture
def scface(tmp_path: Path) -> Path:
    """Three people, two cameras, two distances, in the release's folders; infrared cameras and profiles beside them."""
    rng = np.random.default_rng(0)
    places = {name: f"surveillance_cameras_distance_{name[9]}/cam_{name[7]}" for name in NAMES}
    places |= dict.fromkeys([*MUGSHOTS, "001_L1.jpg"], "mugshot_frontal_original_all")
    places |= {"001_cam6_1.jpg": "surveillance_cameras_IR", "001_cam8.jpg": "surveillance_cameras_IR"}
    for name, place in places.items():
        (tmp_path / "SCface" / place).mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
        (tmp_path / "SCface" / place / name).write_bytes(encode_jpeg(picture))
    return tmp_path / "SCface"


def test_each_distance_is_searched_among_the_mugshots(scface: Path) -> None:
    protocol = SCfaceProtocol(scface)
    names = [path.name for path in protocol.paths]
    assert names == sorted(NAMES) + MUGSHOTS and len(list(protocol.images())) == len(protocol) == 15
    people = (*protocol.probe_ids, *protocol.gallery_ids)
    rows = np.eye(4, dtype=np.float32)[[{1: 0, 2: 1, 7: 2}[person] for person in people]]
    rows[names.index("001_cam1_1.jpg")] = rows[names.index("002_frontal.jpg")]  # far away: taken for another
    rows[names.index("007_cam5_3.jpg")] = 0  # near: no face was found
    found = protocol.score(rows)
    assert holds(found).startswith("12 probes, 3 matches, 0 distractors")
    assert {name: one.rank[1] for name, one in found.identification.items()} == {"4.20 m": 5 / 6, "1.00 m": 5 / 6}
    assert found.identification["4.20 m"].rank[5] == 1 and found.failures is not None and found.failures.images == 1
    assert (found.probes, found.gallery, found.people) == (12, 3, 3)
    assert found.curves is not None and set(found.curves.estimates) >= {"4.20 m rank 1", "1.00 m rank 20"}


def test_it_is_found_as_released_or_in_one_folder(scface: Path, tmp_path: Path) -> None:
    assert [one.protocol for one in find_benchmarks(tmp_path)] == ["scface"]
    (tmp_path / "flat").mkdir()
    for path in list(scface.rglob("*.jpg")):
        path.rename(tmp_path / "flat" / path.name)
    (found,) = PROTOCOLS["scface"].find(tmp_path / "flat", [], [path.name for path in (tmp_path / "flat").iterdir()])
    assert len(found.open()) == 15
    assert "12 probes instead of 1,950" in found.shortfall(found.open().score(np.eye(15, dtype=np.float32)))


def test_an_incomplete_copy_says_what_is_missing(scface: Path) -> None:
    (scface / "mugshot_frontal_original_all/007_frontal.jpg").unlink()
    with pytest.raises(InputError, match=r"expected 007_frontal.jpg below .*, as of everybody, found none"):
        SCfaceProtocol(scface)
    for path in scface.rglob("*frontal.jpg"):
        path.unlink()
    with pytest.raises(InputError, match=r"expected 001_cam1_1.jpg … and 001_frontal.jpg … below .*, found 12 and 0"):
        SCfaceProtocol(scface)


def test_a_detector_cuts_its_faces_out(scface: Path) -> None:
    ((protocol, _),) = open_benchmarks(scface, options=Options(detector="yunet.onnx")).opened
    assert isinstance(protocol, SCfaceProtocol) and protocol.cut == DetectorCut("yunet.onnx")
    assert SCfaceProtocol(scface).cut is None
