"""Crops for calibration: read from every layout that training reads, at exactly the model's size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.layouts import CONTENTS, SOURCES, picture
from zoo.errors import InputError
from zoo.export import parity
from zoo.export.calibration import read_crops
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png


def test_calibration_crops_are_read_from_folders_and_bins_and_never_resized(tmp_path: Path) -> None:
    crops = parity.crops_for_parity((112, 112), 5)
    for i, crop in enumerate(crops):
        (tmp_path / f"person{i % 2}").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"person{i % 2}" / f"{i}.png"), crop[..., ::-1])
    found = read_crops(str(tmp_path), (112, 112), 128)
    assert sorted(c.tobytes() for c in found.crops) == sorted(c.tobytes() for c in crops)
    assert "5 of 5 images" in found.name
    pairs = tmp_path / "pairs.bin"
    write_bin(pairs, [encode_png(crop) for crop in crops[:4]], [True, False])
    assert np.array_equal(read_crops(str(pairs), (112, 112)).crops, crops[:4])
    assert len(read_crops(None, (112, 112), 6).crops) == 6
    with pytest.raises(InputError, match="expected crops of 96×96"):
        read_crops(str(tmp_path), (96, 96))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found 0 images"):
        read_crops(str(tmp_path / "empty"), (112, 112))
    with pytest.raises(InputError, match="found nothing"):
        read_crops(str(tmp_path / "nowhere"), (112, 112))


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "shards"))


@pytest.mark.parametrize("source", SOURCES)
def test_every_layout_that_training_reads_calibrates(source: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    uri = SOURCES[source](tmp_path / "set")
    found = read_crops(uri, (8, 8), 5)
    assert "5 of 15 images" in found.name
    assert [crop.tobytes() for crop in found.crops] == [picture(i).tobytes() for i in (0, 4, 7, 10, 14)]
    with pytest.raises(InputError, match="expected crops of 9×8"):
        read_crops(uri, (9, 8))


def test_a_single_rec_a_list_of_pairs_and_loose_pictures_calibrate_too(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    SOURCES["RecordIO"](tmp_path / "set")
    (record,) = (tmp_path / "set").glob("*.rec")
    assert len(read_crops(str(record), (8, 8)).crops) == 15
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(CONTENTS[i])
    (tmp_path / "pairs.csv").write_text("a,b,same\n0.png,2.png,1\n")
    assert np.array_equal(read_crops(str(tmp_path / "pairs.csv"), (8, 8)).crops, [picture(0), picture(2)])
    assert read_crops("synthetic:2x3", (16, 24)).crops.shape == (6, 16, 24, 3)
