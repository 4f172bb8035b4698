"""The page that people open, in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.benchmarks import (
    bench,
    model,
    two_models,
)
from zoo.evaluate.protocols import PairsProtocol
from zoo.evaluate.report.page import page
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder

__all__ = ["bench", "model", "two_models"]


def a_report(bench: Path, model: Path, name: str) -> Report:
    protocol = PairsProtocol.from_bin(bench)
    embedder = OnnxEmbedder(model, device="cpu")
    facts = ModelFacts(name, sha256=embedder.model_sha256, embedding_dim=5, provider="CPU")
    return Report(facts, (protocol.score(embed(embedder, protocol.images())),))


def test_two_models_stand_side_by_side_and_a_name_is_no_markup(bench: Path, model: Path) -> None:
    text = page([a_report(bench, model, "one"), a_report(bench, model, "<script>alert(1)</script>")])
    assert text.count("<svg") == 4 and "<script>alert" not in text and "&lt;script&gt;" in text
    assert "one (1)" in page([a_report(bench, model, "one"), a_report(bench, model, "one")])


class Browser:
    """As much of the WebDriver protocol as one page needs."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,1400"]}
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        started = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.root += f"/session/{started['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.call("POST", "/se/log", {"type": kind})
        return entries


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver is installed (Debian: chromium and chromium-driver)")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "started successfully on port" in line:
                    break
            found = Browser(int(line.rstrip().rstrip(".").rsplit(" ", 1)[-1]))
            yield found
            found.call("DELETE", "")
        finally:
            process.terminate()


def test_the_page_loads_in_a_browser_without_a_request_and_the_slider_moves_the_numbers(
    two_models: Path, browser: Browser
) -> None:
    page = two_models / "report.html"
    browser.call("POST", "/url", {"url": page.as_uri()})
    table = "[...document.querySelectorAll('table[id^=counts] tbody tr')]"
    cells = f"return {table}.map(r => [...r.cells].map(c => c.textContent))"
    sweeps = json.loads(browser.run("return document.querySelector('script[type=\"application/json\"]').textContent"))
    for place in (0, 1300, 1990, 2000):
        browser.run(
            "const s = document.querySelector('input[type=range]');"
            f"s.value = {place}; s.dispatchEvent(new Event('input', {{bubbles: true}}));"
        )
        assert browser.run("return document.querySelector('output').textContent") == f"{place / 1000 - 1:.3f}"
        rows = browser.run(cells)
        assert [row[0] for row in rows] == ["m.onnx", "other.onnx"]
        for row, sweep in zip(rows, sweeps, strict=True):
            assert int(row[3]) == sweep["false_accepts"][place]
            assert int(row[4]) == sweep["positives"] - sweep["true_accepts"][place]
            assert float(row[1]) == pytest.approx(sweep["false_accepts"][place] / sweep["negatives"], rel=1e-3)
            assert float(row[2]) == pytest.approx(sweep["true_accepts"][place] / sweep["positives"], abs=1e-5)
    assert browser.run("return document.querySelectorAll('svg').length") == 4
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")
    time.sleep(0.2)
    assert [entry["message"] for entry in browser.log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in urls
    assert [url for url in urls if not url.startswith(("data:", page.as_uri()))] == []
