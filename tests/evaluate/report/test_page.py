"""The files of a report, and the page that people open, in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
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
from tests.support.browser import Browser, browsing
from tests.support.node_packages import installed
from zoo.evaluate.protocols import PairsProtocol
from zoo.evaluate.report.page import page
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.inference.embed import embed
from zoo.inference.metadata import model_sha256
from zoo.inference.session import OnnxEmbedder

__all__ = ["bench", "model", "own_cache", "two_models"]


def a_report(bench: Path, model: Path, name: str) -> Report:
    protocol = PairsProtocol.from_bin(bench)
    embedder = OnnxEmbedder(model, device="cpu")
    facts = ModelFacts(name, sha256=embedder.model_sha256, embedding_dim=5, provider="CPU")
    return Report(facts, (protocol.score(embed(embedder, protocol.images())),))


def test_two_models_stand_side_by_side_and_a_name_is_no_markup(bench: Path, model: Path) -> None:
    text = page([a_report(bench, model, "one"), a_report(bench, model, "<script>alert(1)</script>")])
    assert "<script>alert" not in text and "&lt;script&gt;" in text
    assert "one (1)" in page([a_report(bench, model, "one"), a_report(bench, model, "one")])


def move(browser: Browser, slider: str, value: float) -> list[list[str]]:
    """The table of counts after a slider was moved."""
    browser.run(
        f"const s = document.querySelector('input.{slider}');"
        f"s.value = {value}; s.dispatchEvent(new Event('input', {{bubbles: true}}));"
    )
    table = "[...document.querySelectorAll('table.counts tbody tr')]"
    rows: list[list[str]] = browser.run(f"return {table}.map(r => [...r.cells].map(c => c.textContent))")
    return rows


def test_the_page_works_in_a_browser_without_a_request_and_every_mark_follows_both_sliders(two_models: Path) -> None:
    address = (two_models / "report.html").as_uri()
    with browsing() as browser:
        browser.open(address)
        stored = browser.run("return document.querySelector('script[type=\"application/json\"]').textContent")
        sweeps = [drawn["sweep"] for drawn in json.loads(stored)["models"]]
        for place in (0, 1300, 1990, 2000):
            rows = move(browser, "cosine", place)
            assert [row[0] for row in rows] == ["m.onnx", "other.onnx"]
            for row, sweep in zip(rows, sweeps, strict=True):
                assert float(row[1]) == pytest.approx(place / 1000 - 1)
                assert float(row[2]) == pytest.approx(sweep["false_accepts"][place] / sweep["negatives"], rel=1e-3)
                assert float(row[3]) == pytest.approx(sweep["true_accepts"][place] / sweep["positives"], abs=1e-5)
                assert int(row[4]) == sweep["false_accepts"][place]
                assert int(row[5]) == sweep["positives"] - sweep["true_accepts"][place]
        marks = "return [...document.querySelectorAll('.mark,.threshold')].map(m => m.outerHTML)"
        before = browser.run(marks)
        for far, value in ((1.0, 1000), (1 / 30, 0)):
            for row, sweep in zip(move(browser, "far", value), sweeps, strict=True):
                allowed = far * sweep["negatives"] * (1 + 1e-9)
                place = round((float(row[1]) + 1) * 1000)
                assert sweep["false_accepts"][place] <= allowed
                assert place == 0 or sweep["false_accepts"][place - 1] > allowed
        after = browser.run(marks)
        assert len(after) == 6 and all(a != b for a, b in zip(after, before, strict=True))
        figures = browser.run("return [...document.querySelectorAll('svg[role=img]')].map(s => s.ariaLabel)")
        kinds = ["ROC", "DET", *["Histogram of similarities"] * 2]
        assert [name.split(",")[0] for name in figures] == kinds
        assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")
        assert [entry["message"] for entry in browser.log("browser")] == []
        asked = browser.requests()
        assert address in asked and [url for url in asked if not url.startswith(("data:", address))] == []


def test_eight_models_fit_a_phone_and_axe_finds_nothing_in_light_or_dark(
    bench: Path, model: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    one = a_report(bench, model, "a_model_with_a_long_name")
    eight = [replace(one, model=replace(one.model, name=f"a_model_with_a_long_name_{n}")) for n in range(8)]
    (tmp_path / "page.html").write_text(page(eight), encoding="utf-8")
    assert pytestconfig.cache is not None
    axe = (installed("axe-core", pytestconfig.cache) / "axe.min.js").read_text(encoding="utf-8")
    with browsing() as browser:
        browser.command("Emulation.setDeviceMetricsOverride", width=390, height=900, deviceScaleFactor=1, mobile=True)
        browser.open((tmp_path / "page.html").as_uri())
        assert browser.run("return document.documentElement.scrollWidth") == 390
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.command("Emulation.setEmulatedMedia", features=features)
            found = "r => { window.found = [r.violations.map(v => [v.id, v.nodes.map(n => n.html)])]; }"
            browser.run(f"{axe}; window.found = null; axe.run().then({found});")
            assert browser.wait("window.found") == [[]]


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
