"""`export_onnx` as a Python call: what it writes and returns, and what it rejects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.support.exporting import DIM
from tests.support.layouts import CONTENTS, SOURCES, picture
from zoo.errors import InputError
from zoo.export import artifacts, parity
from zoo.export.artifacts import Options, choose_crops, export_onnx, read_crops
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo
from zoo.runs import training_data


class Remembering(nn.Module):
    """An embedder whose graph holds more than its weights: a table that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, DIM, 16, 16)
        self.table = torch.randn(3, 112, 112)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.conv(x + self.table).mean((2, 3))
        return embedding


def test_a_graph_larger_than_its_weights_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Remembering().eval()
    weights = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    monkeypatch.setattr(artifacts, "SINGLE_FILE_BYTES", weights + 1000)
    options = Options(fp16=True)
    with pytest.raises(InputError, match="export the float32 file alone"):
        artifacts.write(model, ModelInfo(DIM), tmp_path / "model.onnx", options)
    assert not list(tmp_path.iterdir())


def test_two_processes_write_the_same_bytes_whatever_their_folder_hash_seed_and_threads(
    model_folder: Path, tmp_path: Path
) -> None:
    written = []
    for seed, threads in (("1", "1"), ("2", "2")):
        folder = tmp_path / f"process{seed}"
        folder.mkdir()
        command = [sys.executable, "-m", "zoo", "export", str(model_folder), "-o", "out", "--onnx", "--fp16", "--int8"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        subprocess.run(command, check=True, cwd=folder, env=environment)
        written.append({file.name: file.read_bytes() for file in (folder / "out").glob("*.onnx")})
    assert len(written[0]) == 3
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []


def test_the_python_call_does_what_the_command_does(model_folder: Path) -> None:
    written = zoo.export_onnx(model_folder, fp16=True)
    assert written.model == model_folder / "model.onnx" and written.measured_on == "synthetic faces"
    report = json.loads((model_folder / "export.json").read_text())
    assert json.loads(json.dumps(written.facts())) == report
    assert written.to_json()["model"] == str(written.model)
    assert set(written.info.parity) == {str(batch) for batch in parity.BATCHES}
    comparison = written.comparison
    assert comparison is not None and [row.precision for row in comparison.rows] == ["float32", "float16"]
    variant = OnnxEmbedder(model_folder / "model.fp16.onnx", device="cpu").info
    assert variant is not None and variant.quantisation == report["quantisation"]["float16"]
    with pytest.raises(InputError, match="add --force"):
        export_onnx(model_folder)
    again = export_onnx(model_folder, force=True)
    assert again.comparison is None and again.info.parity == written.info.parity


def test_crops_come_from_the_training_data_where_they_have_the_models_size(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crops = parity.crops_for_parity((112, 112), 34)
    for i, crop in enumerate(crops):
        (tmp_path / f"faces/person{i % 2}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"faces/person{i % 2}/{i}.png"), crop[..., ::-1])
    (tmp_path / "config.yaml").write_text(f"data: {tmp_path / 'faces'}\n")
    options = Options(training_data=training_data(tmp_path))
    assert choose_crops(ModelInfo(DIM), options).name == "faces: 33 of 34 images"
    assert choose_crops(ModelInfo(DIM, InputSpec((96, 96))), options).name == "synthetic faces"
    assert "synthetic faces are used instead of the training data: expected crops of 96×96" in caplog.text
    (tmp_path / "config.yaml").write_text("data: synthetic:5x7\n")
    assert training_data(tmp_path) is None and training_data(tmp_path / "faces") is None


def test_a_file_of_an_earlier_export_is_reported(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (model_folder / "model.int8.onnx").write_bytes(b"old")
    export_onnx(model_folder)
    assert "model.int8.onnx is from an earlier export and stays unchanged" in caplog.text


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
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "shards"))


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
