"""The files of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import (
    bench,
    model,
    own_cache,
    run,
    two_models,
)
from zoo.evaluate.report.record import Report
from zoo.inference.metadata import model_sha256

__all__ = ["bench", "model", "own_cache", "two_models"]


def test_the_report_has_tables_figures_and_differences(two_models: Path, model: Path, bench: Path) -> None:
    text = (two_models / "report.html").read_text()
    assert "other.onnx against m.onnx, accuracy:" in text and text.count("<img") == 2 * 2 * 2 * 8
    assert (two_models / "colours-bin-roc.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (two_models / "colours-bin-det.svg").read_text()
    first = json.loads((two_models / "report.json").read_text())
    assert "data:image" not in (two_models / "report.json").read_text()
    accuracy = f"{first['results'][0]['accuracy']:.6f}"
    for suffix in ("md", "csv", "tex"):
        table = (two_models / f"report.{suffix}").read_text()
        assert accuracy in table and "TAR@FAR 0.1" in table
    assert json.loads((two_models / "report-2.json").read_text())["model"]["name"] == "other.onnx"


def test_an_earlier_report_stands_beside_a_new_one(
    two_models: Path, model: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", bench, "--device", "cpu", "--report", tmp_path / "s"]
    assert run(capsys, "evaluate", model, *arguments, "--compare", two_models / "report-2.json")[0] == 0
    assert "other.onnx against m.onnx, accuracy:" in (tmp_path / "s" / "report.html").read_text()
    assert run(capsys, "evaluate", model, *arguments, "--compare", bench)[0] == 2


def test_the_report_is_whole_and_needs_no_network(
    bench: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "r"
    status, _, _ = run(capsys, "evaluate", model, "--data", bench, "--device", "cpu", "--report", folder)
    assert status == 0
    report = Report.read(folder / "report.json")
    (found,) = report.results
    assert report.model.sha256 == model_sha256(model) and found.pairs == 60
    assert report.provenance.versions["numpy"] == np.__version__
    text = (folder / "report.html").read_text()
    assert f"{found.auc:.6f}" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?http|@import""", text)
