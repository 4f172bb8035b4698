"""`zoo inspect` prints what a file contains, for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.exporting import write_flat
from zoo.cli import main
from zoo.commands.inspect import fact_lines
from zoo.modelinfo import ModelInfo, Threshold


def test_it_prints_the_facts_or_json_for_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write_flat(tmp_path / "model.onnx")
    assert main(["inspect", str(ours)]) == 0
    told = capsys.readouterr().out
    assert "arcface(scale=64)" in told and "batch 2: cosine" in told and "license       not stated" in told
    assert "input         input: float (batch, 3, 112, 112)" in told
    assert main(["inspect", str(ours), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["embedding_dim"] == 7 and found["facts"]["thresholds"] == []
    assert found["inputs"] == [{"name": "input", "dtype": "float", "shape": ["batch", 3, 112, 112]}]


def test_a_variant_and_its_thresholds_are_printed() -> None:
    threshold = Threshold(0.01, 0.25, "pairs", "lfw.bin", "ab", 300, 3, (0.0, 0.1), flip=True, precision="int8")
    how = {"precision": "int8", "method": "entropy", "kept_in_float32": ["body.conv1"]}
    lines = fact_lines(replace(ModelInfo(7), quantisation=how, thresholds=(threshold,)))
    assert ("precision", "int8, ranges by entropy; kept in float32: body.conv1") in lines
    assert ("threshold", "0.2500 at FAR 0.01 on lfw.bin (int8)") in lines
