"""Smaller files: float16 and int8 keep in float32 what they must, say so, and are compared with the float32 file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import timm
import torch
from torch import nn

from tests.support.exporting import traces_of_this_machine
from zoo.backbones import create_backbone, save_timm
from zoo.cli import main
from zoo.commands.export import LOW_COSINE, drop_text, table
from zoo.data.synthetic import synthetic_pairs
from zoo.errors import InputError
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.export import artifacts, parity, quantize, variants
from zoo.export.calibration import read_crops
from zoo.export.formats import FORMATS, Options
from zoo.export.onnx import to_proto
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo

DIM = 37
INPUTS = InputSpec().to_input(parity.crops_for_parity((112, 112), 16))


class Small(nn.Module):
    """Two convolutions and an FC; `gain` lets the first one's values leave float16."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 8, 8)
        self.second = nn.Conv2d(8, 8, 7, 7)
        self.fc = nn.Linear(32, DIM)
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.first(x * self.gain)
        embedding: torch.Tensor = self.fc((self.second(large.relu()) / self.gain).flatten(1))
        return embedding


def run(proto: onnx.ModelProto) -> parity.Embeddings:
    return np.asarray(parity.session(proto.SerializeToString(), optimise=True).run(None, {"input": INPUTS})[0])


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    return to_proto(Small().eval(), (112, 112))


def test_half_is_half_as_large_and_computes_nearly_the_same(small: onnx.ModelProto) -> None:
    half = quantize.to_half(small, INPUTS)
    onnx.checker.check_model(half.proto, full_check=True)
    assert half.facts["kept_in_float32"] == []
    assert {t.data_type for t in half.proto.graph.initializer} <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert parity.row_cosines(run(small), run(half.proto)).min() > 0.9999
    elem = {v.type.tensor_type.elem_type for v in (*half.proto.graph.input, *half.proto.graph.output)}
    assert elem == {onnx.TensorProto.FLOAT}, "consumers feed and read float32"


def test_a_layer_whose_values_leave_float16_stays_in_float32_and_is_named() -> None:
    loud = to_proto(Small(gain=1e6).eval(), (112, 112))
    half = quantize.to_half(loud, INPUTS)
    assert "first" in half.facts["kept_in_float32"]
    assert "fc" not in half.facts["kept_in_float32"]
    assert "values reach" in half.facts["why"]
    found = run(half.proto)
    assert np.isfinite(found).all()
    assert parity.row_cosines(run(loud), found).min() > 0.999


def test_the_largest_magnitudes_are_those_of_a_plain_run(small: onnx.ModelProto) -> None:
    with torch.inference_mode():
        expected = Small().eval().first(torch.from_numpy(INPUTS)).abs().max()
    found = quantize.largest_magnitudes(small, INPUTS)
    conv = next(node for node in small.graph.node if node.op_type == "Conv")
    assert found[conv.output[0]] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("method", quantize.METHODS)
def test_int8_by_every_method_stays_close_and_keeps_float32_ports(small: onnx.ModelProto, method: str) -> None:
    variant = quantize.to_int8(small, INPUTS, [method])
    onnx.checker.check_model(variant.proto, full_check=True)
    assert variant.facts["method"] == method
    assert parity.row_cosines(run(small), run(variant.proto)).mean() > 0.99
    weights = [t for t in variant.proto.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert weights, "no weight became int8"
    seven_bits = [np.abs(onnx.numpy_helper.to_array(t).astype(int)).max() for t in weights]
    assert max(seven_bits) <= 64, "AVX2 without VNNI saturates with eight bits of weight"


def test_the_search_keeps_the_costliest_layers_and_gains_by_it(
    small: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = quantize.to_int8(small, INPUTS, ["minmax"])
    monkeypatch.setattr(quantize, "GOOD_COSINE", 1.1)  # never reached: the search goes to its end
    searched = quantize.to_int8(small, INPUTS, ["minmax"])
    assert plain.facts["kept_in_float32"] == []
    assert len(searched.facts["kept_in_float32"]) == 1 and searched.facts["why"]
    assert (
        parity.row_cosines(run(small), run(searched.proto)).mean()
        > parity.row_cosines(run(small), run(plain.proto)).mean()
    )


def test_the_same_crops_give_the_same_int8_bytes(small: onnx.ModelProto) -> None:
    one, other = (
        quantize.to_int8(small, INPUTS, ["entropy"]).proto.SerializeToString(deterministic=True) for _ in "ab"
    )
    assert one == other


def test_unknown_methods_and_too_few_crops_are_refused(small: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="found magic"):
        quantize.to_int8(small, INPUTS, ["magic"])
    with pytest.raises(InputError, match="at least 4 crops"):
        quantize.to_int8(small, INPUTS[:3])


def judged(seed: int, shift: float) -> variants.Scores:
    rng = np.random.default_rng(seed)
    same = np.arange(600) % 2 == 0
    return variants.Scores.of(np.clip(rng.normal(np.where(same, 0.5 - shift, 0.1), 0.15), -1, 1), same)


def test_a_models_accuracy_by_pairs_is_its_tenfold_accuracy() -> None:
    from zoo.evaluate.metrics import kfold_accuracy

    scores = judged(0, 0.0)
    result = kfold_accuracy(scores.cosines, scores.same)
    assert int(scores.correct.sum()) == result.correct


def test_the_interval_of_a_change_holds_it_and_is_nothing_for_the_same_model() -> None:
    reference, worse = judged(0, 0.0), judged(1, 0.1)
    for change_of in (variants.accuracy_change, variants.tar_change):
        change = change_of(reference, worse)
        assert change.low <= change.value <= change.high
        assert change.low < change.high
        nothing = change_of(reference, reference)
        assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    assert variants.accuracy_change(reference, worse).value < 0


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


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in timm's layout, compared on few pairs and for a short time."""
    monkeypatch.setattr(artifacts, "DRAWN_PAIRS", 40)
    monkeypatch.setattr(variants, "RESAMPLES", 20)
    plain = variants.latency
    monkeypatch.setattr(variants, "latency", lambda paths, batch, threads: plain(paths, batch, threads, seconds=0.05))
    torch.manual_seed(0)
    model = create_backbone("test_resnet", DIM, stem="stock", neck="gap")
    model.train()(torch.randn(8, 3, 112, 112))
    folder = tmp_path / "model"
    save_timm(model, folder, asdict(ModelInfo(DIM, backbone="test_resnet", neck="gap", stem="stock")))
    return folder


def test_one_command_writes_three_proven_files_and_their_comparison(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(model_folder), "--onnx", "--fp16", "--int8", "--calibration-method", "minmax"]) == 0
    told = capsys.readouterr().out
    names = ["model.onnx", "model.fp16.onnx", "model.int8.onnx"]
    assert all(name in told for name in names) and "kept in float32" in told
    report = json.loads((model_folder / "export.json").read_text())
    assert [row["file"] for row in report["variants"]] == names
    assert [row["precision"] for row in report["variants"]] == ["float32", "float16", "int8"]
    embedders = [OnnxEmbedder(model_folder / name, device="cpu") for name in names]
    precisions = [embedder.info.quantisation.get("precision") for embedder in embedders if embedder.info]
    assert precisions == [None, "float16", "int8"]
    crops = parity.crops_for_parity((112, 112), 3)
    for embedder in embedders[1:]:
        assert parity.row_cosines(embedders[0](crops), embedder(crops)).min() > 0.9
    assert [traces_of_this_machine((model_folder / name).read_bytes()) for name in names] == [[], [], []]
    sizes = [row["size_ratio"] for row in report["variants"]]
    assert sizes[0] == 1 and max(sizes[1:]) < 0.7


def test_the_accuracy_of_the_comparison_is_that_of_evaluation(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, same = synthetic_pairs(40, seed=3)
    write_bin(tmp_path / "pairs.bin", [encode_png(image) for image in images], same)
    exported = ["export", str(model_folder), "--json", "--onnx", "--fp16", "--data", str(tmp_path / "pairs.bin")]
    assert main(exported) == 0
    rows = {row["file"]: row for row in json.loads(capsys.readouterr().out)["variants"]}
    for name, row in rows.items():
        model = OnnxEmbedder(model_folder / name, device="cpu")
        protocol = PairsProtocol.from_bin(tmp_path / "pairs.bin")
        assert row["accuracy"] == protocol.score(embed(model, protocol.images(), flip=True))["accuracy"]


def test_a_file_far_from_float32_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    change = {"value": 0.0, "low": 0.0, "high": 0.0}
    row = {
        **{"precision": "float32", "file": "model.onnx", "bytes": 1, "size_ratio": 1.0},
        **{"milliseconds": {"1": 1.0, "32": 1.0}, "speed": {"1": 1.0, "32": 1.0}},
        **{"mean_cosine": 1.0, "worst_cosine": 1.0, "accuracy": 0.9, "accuracy_change": change},
        **{"tar": None, "tar_change": change},
    }
    far = {**row, "precision": "int8", "mean_cosine": LOW_COSINE - 0.01}
    table({"pairs": "x", "variants": [row, far], "quantisation": {}})
    assert "int8: its embeddings are far from float32's (mean cosine 0.9800)" in capsys.readouterr().out
    table({"pairs": "x", "variants": [row, {**far, "mean_cosine": LOW_COSINE}], "quantisation": {}})
    assert "far from float32" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "--fp16", "--max-accuracy-drop", "-1"], "expected a fraction such as 0.005"),
        (["--onnx", "--fp16", "--max-accuracy-drop", "nan"], "expected a fraction such as 0.005"),
        (["--onnx", "--fp16", "--strict"], "add it"),
        (["--onnx", "--max-accuracy-drop", "0.01"], "add --fp16 or --int8"),
        (["--fp16"], "add --onnx"),
        (["--onnx", "--int8", "--calibrate", "nowhere"], "found nothing"),
        (["--onnx", "--int8", "--calibration-method", "magic"], "found magic"),
        (["--safetensors"], "name another folder"),
    ],
)
def test_a_refused_export_is_one_sentence_and_leaves_no_file(
    arguments: list[str], message: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model_folder.iterdir())
    assert main(["export", str(model_folder), "--json", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(model_folder.iterdir()) == before


@pytest.mark.soak
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


def test_weights_beyond_one_file_are_exported_in_float32_alone(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SINGLE_FILE_BYTES", 1000)
    before = sorted(model_folder.iterdir())
    assert main(["export", str(model_folder), "--onnx", "--int8", "--json"]) == 2
    assert "export the float32 file alone" in capsys.readouterr().err
    assert sorted(model_folder.iterdir()) == before


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
    options = Options(fp16=True, say=lambda line: None)
    with pytest.raises(InputError, match="export the float32 file alone"):
        artifacts.write(model, ModelInfo(DIM), tmp_path / "model.onnx", options)
    assert not list(tmp_path.iterdir())


def row(value: float, low: float, high: float) -> variants.Row:
    change = variants.Change(value, low, high)
    return variants.Row("model.int8.onnx", "int8", 1, 0.25, {}, {}, 0.99, 0.9, 0.8, change, 0.5, change)


def test_the_limit_judges_the_measured_loss_and_strict_judges_its_interval() -> None:
    fine, unsure, bad = row(-0.002, -0.004, 0.0), row(-0.004, -0.009, 0.001), row(-0.006, -0.011, -0.001)
    for strict in (False, True):
        artifacts.require_accuracy(fine, 0.005, strict, "lfw.bin")
        with pytest.raises(InputError, match=r"loss of 0\.0060 \(95 % interval \+0\.0010 to \+0\.0110\) on lfw\.bin"):
            artifacts.require_accuracy(bad, 0.005, strict, "lfw.bin")
    artifacts.require_accuracy(unsure, 0.005, False, "lfw.bin")
    assert "--strict would refuse" in drop_text("int8", asdict(unsure.accuracy_change), 0.005)
    assert "whole interval is within" in drop_text("int8", asdict(fine.accuracy_change), 0.005)
    with pytest.raises(InputError, match="with 95 % certainty"):
        artifacts.require_accuracy(unsure, 0.005, True, "lfw.bin")


def test_a_file_that_loses_too_much_is_refused_at_the_command_line_with_all_others(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "accuracy_change", lambda first, other: variants.Change(-0.02, -0.05, 0.01))
    before = sorted(model_folder.iterdir())
    assert main(["export", str(model_folder), "--json", "--onnx", "--fp16", "--max-accuracy-drop", "0.019"]) == 2
    said = capsys.readouterr().err
    assert "found a loss of 0.0200 (95 % interval -0.0100 to +0.0500)" in said and said.count("\n") == 1
    assert sorted(model_folder.iterdir()) == before


def test_safetensors_copies_a_model_that_timm_loads(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert main(["export", str(model_folder), "--safetensors", "-o", str(copy)]) == 0
    ours, theirs = (timm.create_model(f"local-dir:{f}", pretrained=True).eval() for f in (model_folder, copy))
    x = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    assert main(["export", str(model_folder), "--safetensors", "-o", str(copy)]) == 2


def test_every_format_has_a_flag_and_nothing_else_is_a_format() -> None:
    assert list(FORMATS) == ["onnx", "safetensors"]
