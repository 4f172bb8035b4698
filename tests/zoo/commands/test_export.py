"""`zoo export`: one command, proven files, and one sentence with no file left where it cannot."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.exporting import (
    Odd,
    Tiny,
    make_model,
    make_run,
    traces_of_this_machine,
)
from zoo.cli import main
from zoo.commands.export import LOW_COSINE, show_comparison
from zoo.export import artifacts, parity
from zoo.export import onnx as exporter
from zoo.export.artifacts import Change, Comparison, Row
from zoo.export.onnx import fold_neck
from zoo.export.quantize import Conversion
from zoo.inference.session import OnnxEmbedder
from zoo.runs import lock


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run called `first` in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path)


@pytest.mark.parametrize(
    ("break_it", "arguments", "message"),
    [
        (lambda run: (run / "model.safetensors").unlink(), ["--onnx"], "never finished an epoch"),
        (lambda run: (run / "model.onnx").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: None, [], "expected a format, found none; add --onnx, --safetensors or --web OUT"),
        (lambda run: None, ["second", "--onnx"], "no model is called"),
        (lambda run: (run / "model.onnx.data").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: (run / "export.json").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: (run / "model.safetensors").write_bytes(b"torn"), ["--onnx"], "cannot read the weights"),
        (lambda run: None, ["--onnx", "-o", "nowhere/model.onnx"], "found none at nowhere"),
        (lambda run: None, ["--onnx", "-o", "runs/first/config.yaml/no"], "cannot create the folder"),
        (lambda run: None, ["--onnx", "-o", "runs/first/config.yaml"], "found another file"),
        (lambda run: None, ["--onnx", "-o", "/proc/model.onnx"], "cannot write into /proc"),
        (lambda run: None, ["--onnx", "--safetensors", "-o", "runs/first", "--calibrate", "x"], "add --force"),
        (lambda run: None, ["--safetensors", "-o", "new", "--opset", "20"], "add --onnx"),
        (lambda run: None, ["--onnx", "--data", "pairs.bin"], "add --fp16 or --int8"),
        (lambda run: None, ["--onnx", "--calibrate", "nowhere", "-o", "new"], "found nothing"),
        (lambda run: None, ["--onnx", "--opset", "7"], "opset from"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_sentence(
    break_it: object, arguments: list[str], message: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(run_folder)
    before = sorted(run_folder.iterdir())
    assert main(["export", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(run_folder.iterdir()) == before
    assert [path.name for path in Path().iterdir()] == ["runs"], "a folder that was made for nothing is gone again"


def test_what_the_disk_refuses_is_told_and_leaves_no_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporter, "save", full)
    assert main(["export", "--onnx", "-o", "new"]) == 2
    assert "cannot write new/model.onnx (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_an_operator_that_onnx_lacks_is_named_at_the_command_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.export.artifacts.load_timm", lambda folder: nn.Sequential(Tiny(), nn.Sequential(Odd())))
    before = sorted(run_folder.iterdir())
    assert main(["export", "--onnx"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no counterpart of the operator zootest.odd, used in 1.0" in said.replace("::", ".")
    assert sorted(run_folder.iterdir()) == before


def test_a_wrong_export_is_one_sentence_and_leaves_no_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model.get_submodule("blocks.3.residual.1.0").weight.neg_()
        return fold_neck(model)

    monkeypatch.setattr(exporter, "fold_neck", fold_wrongly)
    before = sorted(run_folder.iterdir())
    assert main(["export", "--onnx"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "expected model.onnx to compute what torch computes, found on a batch of 1 crop a cosine of" in said
    assert "nothing was written" in said and "Traceback" not in said
    assert sorted(run_folder.iterdir()) == before


def test_a_run_that_is_being_written_is_refused(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock(run_folder):
        assert main(["export", "--onnx"]) == 2
    assert "is being written" in capsys.readouterr().err


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in timm's layout, whose variants are compared on few pairs and for a short time."""
    return make_model(tmp_path / "model", monkeypatch)


def test_one_command_writes_three_proven_files_and_their_comparison(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(model_folder), "--onnx", "--fp16", "--int8"]) == 0
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


def test_a_file_far_from_float32_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = Change(0.0, 0.0, 0.0)
    times = {"1": 1.0, "32": 1.0}
    row = Row("model.onnx", "float32", 1, 1.0, times, times, 1.0, 1.0, 0.9, nothing, math.nan, nothing)
    for cosine, told in ((LOW_COSINE - 0.01, True), (LOW_COSINE, False)):
        rows = (row, replace(row, precision="int8", mean_cosine=cosine))
        show_comparison(Comparison("x", rows, (Conversion("int8"),)))
        said = capsys.readouterr().out
        assert ("int8: its embeddings are far from float32's (mean cosine 0.9800)" in said) is told
        assert "not measurable" in said and "int8: kept in float32: nothing" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "--fp16", "--max-accuracy-drop", "-1"], "expected a fraction such as 0.005"),
        (["--onnx", "--fp16", "--max-accuracy-drop", "nan"], "expected a fraction such as 0.005"),
        (["--onnx", "--max-accuracy-drop", "0.01"], "add --fp16 or --int8"),
        (["--fp16"], "add --onnx"),
        (["--safetensors"], "name another folder"),
        (["--onnx", "--int8", "--calibrate", "nowhere"], "found nothing"),
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


def test_weights_beyond_one_file_are_exported_in_float32_alone(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SINGLE_FILE_BYTES", 1000)
    before = sorted(model_folder.iterdir())
    assert main(["export", str(model_folder), "--onnx", "--int8", "--json"]) == 2
    assert "export the float32 file alone" in capsys.readouterr().err
    assert sorted(model_folder.iterdir()) == before


@pytest.mark.parametrize("change", [Change(-0.02, -0.05, 0.01), Change(math.nan, math.nan, math.nan)])
def test_a_file_that_loses_too_much_is_refused_at_the_command_line_with_all_others(
    change: Change, model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "changes", lambda first, other: (change, change))
    before = sorted(model_folder.iterdir())
    command = ["export", str(model_folder), "--json", "--onnx", "--fp16", "--max-accuracy-drop"]
    assert main([*command, "0.019"]) == 2
    said = capsys.readouterr().err
    loss = "nan" if math.isnan(change.value) else "0.0200 (95 % interval -0.0100 to +0.0500)"
    assert f"found a loss of {loss}" in said and said.count("\n") == 1
    assert sorted(model_folder.iterdir()) == before
    assert main([*command, "0.021"]) == (2 if math.isnan(change.value) else 0)


def test_the_formats_are_onnx_and_safetensors_and_both_may_be_written_at_once(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["export", str(model_folder), "--onnx", "--safetensors", "-o", str(tmp_path / "a" / "b"), "--json"]
    assert main(both) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["onnx", "safetensors"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        *("config.json", "export.json", "model.onnx", "model.safetensors")
    ]
    assert main(["export", str(model_folder), "--tflite"]) == 2
