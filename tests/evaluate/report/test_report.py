"""Folders of benchmarks, the cache, and the page that people open, in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import write_model
from tests.zoo.commands.test_evaluate import bench, colour_pairs, model, own_cache, run
from zoo import cli
from zoo.errors import InputError
from zoo.evaluate.benchmarks import cache
from zoo.evaluate.benchmarks.find import BENCHMARKS, find_benchmarks
from zoo.files import cache_folder
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png

__all__ = ["bench", "model", "own_cache"]


def write_pairs(path: Path, pairs: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images, same = colour_pairs(pairs, seed)
    write_bin(path, [encode_png(image[:16, :16]) for image in images], same)
    return path


def test_benchmarks_are_found_where_they_lie_and_narrowed_by_name(tmp_path: Path) -> None:
    write_pairs(tmp_path / "val" / "lfw.bin")
    write_pairs(tmp_path / "val" / "own.bin")
    (tmp_path / "ijb" / "IJBB" / "meta").mkdir(parents=True)
    (tmp_path / "ijb" / "IJBB" / "meta" / "ijbb_face_tid_mid.txt").write_text("")
    (tmp_path / "tinyface" / "Testing_Set").mkdir(parents=True)
    found = {one.name: one for one in find_benchmarks(tmp_path)}
    assert sorted(found) == ["ijbb", "lfw", "own", "tinyface"]
    assert [one.name for one in find_benchmarks(tmp_path, ["lfw"])] == ["lfw"]
    assert sorted(one.name for one in find_benchmarks(tmp_path, ["pairs"])) == ["lfw", "own"]
    assert "40 pairs instead of 6,000" in found["lfw"].shortfall({"pairs": 40})
    assert found["own"].shortfall({"pairs": 40}) == "" == found["lfw"].shortfall({"pairs": 6000})
    with pytest.raises(InputError, match="did you mean lfw"):
        find_benchmarks(tmp_path, ["lwf"])
    with pytest.raises(InputError, match="expected a benchmark of ijbc under"):
        find_benchmarks(tmp_path, ["ijbc"])
    with pytest.raises(InputError, match="missing there"):
        found["tinyface"].open()
    with pytest.raises(InputError, match="ijbb_name_5pts_score"):
        found["ijbb"].open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        find_benchmarks(tmp_path / "empty")


def test_no_file_name_belongs_to_two_benchmarks() -> None:
    names = [name for benchmark in BENCHMARKS.values() for name in benchmark.files]
    assert len(names) == len(set(names))


def test_the_cache_is_reused_and_never_for_something_else(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "a.bin")
    first = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]
    second = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]
    assert "reused from the cache" not in first and "reused from the cache" in second
    assert first.splitlines()[:8] == second.splitlines()[:8]
    other_data = write_pairs(tmp_path / "b.bin", seed=1)
    other_model = write_model(tmp_path / "other.onnx", seed=1)
    for changed in (
        [model, "--data", other_data],
        [other_model, "--data", data],
        [model, "--data", data, "--no-flip"],
        [model, "--data", data, "--no-cache"],
    ):
        assert "reused" not in run(capsys, "evaluate", *changed, "--device", "cpu")[1]
    for entry in cache_folder("embeddings").glob("*.npz"):
        entry.write_bytes(entry.read_bytes()[:-40])
    assert "reused" not in run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]


def test_an_altered_entry_is_not_believed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 3), dtype=np.float32)
    cache.store(tmp_path / "new", "key", vectors)
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    np.testing.assert_array_equal(cache.load(tmp_path / "new", "key", 7), vectors)
    assert cache.load(tmp_path / "new", "key", 8) is None and cache.load(tmp_path / "new", "other", 7) is None
    np.savez(tmp_path / "new" / "key.npz", embeddings=vectors + 1, sha256="0" * 64)
    assert cache.load(tmp_path / "new", "key", 7) is None
    assert cache.cache_key({"flip": True}) != cache.cache_key({"flip": False})


def test_a_folder_of_groups_is_measured_and_their_spread_told(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, group in enumerate(("African", "Asian")):
        write_pairs(tmp_path / "rfw" / f"{group}_test.bin", pairs=240, seed=seed)
    status, out, _ = run(
        capsys, "evaluate", model, "--data", tmp_path / "rfw", "--device", "cpu", "--report", tmp_path / "r"
    )
    assert status == 0 and "RFW African: FMR" in out and "spread between groups" in out
    record = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(record["groups"]["groups"]) == len(record["results"]) == 2


def test_strict_refuses_another_input_size(tmp_path: Path, bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = write_model(tmp_path / "small.onnx", ("n", 3, 96, 96))
    status, out, _ = run(capsys, "evaluate", small, "--data", bench, "--device", "cpu")
    assert status == 0 and "the model's input 96×96: resized" in out
    status, _, err = run(capsys, "evaluate", small, "--data", bench, "--device", "cpu", "--strict", "--no-cache")
    assert status == 2 and "leave out --strict" in err


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two models on one benchmark, the fixtures' own, with thumbnails."""
    folder = tmp_path_factory.mktemp("two")
    images, same = colour_pairs(60)
    write_bin(folder / "colours.bin", [encode_png(image) for image in images], same)
    models = [write_model(folder / "m.onnx"), write_model(folder / "other.onnx", seed=3)]
    arguments = ["--data", folder / "colours.bin", "--device", "cpu", "--no-cache", "--thumbnails"]
    assert cli.main([str(word) for word in ["evaluate", *models, *arguments, "--report", folder / "r"]]) == 0
    return folder / "r"


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


@pytest.mark.soak
def test_a_run_scores_the_same_by_torch_as_by_its_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import asdict

    import torch

    from zoo.backbones import create_backbone, save_timm
    from zoo.export.onnx import write_onnx
    from zoo.modelinfo import ModelInfo

    torch.manual_seed(0)
    network = create_backbone("mobilefacenet", embedding_dim=64).eval()
    folder = tmp_path / "run"
    save_timm(network, folder, asdict(ModelInfo(64, backbone="mobilefacenet")))
    (folder / "config.yaml").write_text("backbone: mobilefacenet\n")
    write_onnx(network, folder / "model.onnx", ModelInfo(64, backbone="mobilefacenet"))
    data = write_pairs(tmp_path / "c.bin", 60)
    by: dict[str, Any] = {}
    for backend in ("onnx", "torch"):
        arguments = [folder, "--backend", backend, "--data", data, "--device", "cpu", "--json"]
        status, out, _ = run(capsys, "evaluate", *arguments)
        assert status == 0
        by[backend] = json.loads(out)
    for key in ("accuracy", "auc", "eer"):
        assert by["onnx"][key] == pytest.approx(by["torch"][key], abs=1e-5)
    np.testing.assert_allclose(by["onnx"]["fold_thresholds"], by["torch"]["fold_thresholds"], atol=1e-5)
