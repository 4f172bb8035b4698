"""A report is written, read back, and never holds a face."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.benchmarks import colour_pairs
from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.evaluate.groups import group_rates
from zoo.evaluate.protocols import PairsProtocol
from zoo.evaluate.report.record import ModelFacts, Report, Settings, thumbnails
from zoo.evaluate.results import Evaluation
from zoo.modelinfo import InputSpec, ModelInfo

PUBLISHED = sorted((ROOT / "model_cards").glob("*/report.json"))


@pytest.fixture(scope="module")
def report() -> Report:
    """A report with everything that one may hold."""
    images, same = colour_pairs(60)
    protocol = PairsProtocol(images, same, data="colours", data_sha256="ab" * 32)
    embeddings = np.random.default_rng(0).normal(size=(len(protocol), 4)).astype(np.float32)
    embeddings[3] = 0
    facts = ModelFacts("m", "m.onnx", "cd" * 32, 4, input=InputSpec(std=128.0), info=ModelInfo(4), notes=("a note",))
    cosines = protocol.cosines(embeddings)
    groups = group_rates({"one": (cosines, same), "two": (cosines[::-1], same[::-1])}, 0.1)
    found = protocol.score(embeddings)
    return Report(facts, (found,), Settings(flip=False, compat="insightface"), groups, ("IJB-C is not whole",))


def test_a_report_is_read_back_as_it_was(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    again = Report.read(tmp_path / "report.json")
    assert again.to_json() == report.to_json()
    assert again.model == report.model and again.options == report.options and again.groups == report.groups
    assert again.provenance == report.provenance and again.not_measured == report.not_measured
    (before,), (after,) = report.results, again.results
    assert after.operating_points == before.operating_points and after.failures == before.failures
    assert after.curves.rejection == before.curves.rejection
    assert math.isnan(after.tar_at_far[0.0001]) and after.tar_at_far[0.1] == before.tar_at_far[0.1]
    assert json.loads((tmp_path / "report.json").read_text())["results"][0]["tar_at_far"]["0.0001"] is None


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_a_report_of_an_earlier_version_loads_and_keeps_every_figure(path: Path) -> None:
    before = json.loads(path.read_text())
    del before["model"]["info"]  # a ModelInfo, whose own test reads older ones
    assert missing(before, Report.read(path).to_json()) == []


def missing(before: Any, after: Any, where: str = "") -> list[str]:
    """The places at which `after` does not hold what `before` held."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [place for key in before for place in missing(before[key], after.get(key), f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [place for index, pair in pairs for place in missing(*pair, f"{where}/{index}")]
    return [] if before == after else [where]


def test_what_a_later_version_adds_is_ignored(report: Report) -> None:
    record = json.loads(json.dumps(report.to_json()))
    record["results"][0]["new"] = {"a": 1}
    record["more"] = 2
    assert Report.from_json(record).to_json() == report.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"results": []},
        {"model": "m"},
        {"model": {"name": 3}},
        {"results": [{"data": "x"}]},
        {"results": [{"curves": {"estimates": {"AUC": {"value": 1, "people": math.inf, "replicates": ""}}}}]},
        {"provenance": None},
        {"groups": {"threshold": "high"}},
    ],
    ids=str,
)
def test_something_else_than_a_report_is_refused(report: Report, change: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({**report.to_json(), **change}))
    with pytest.raises(InputError, match="expected a report"):
        Report.read(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a report"):
        Report.read(tmp_path / "x.json")


def test_faces_are_on_the_page_and_never_in_the_record(report: Report, tmp_path: Path) -> None:
    images, same = colour_pairs(60)
    (found,) = report.results
    shown = thumbnails(PairsProtocol(images, same), found.curves.hardest)
    assert [len(shown[kind]) for kind in ("false_accepts", "false_rejects")] == [8, 8]
    with_faces = Report(report.model, (Evaluation(**{**vars(found), "thumbnails": shown}),))
    for name, seen in (("report.html", True), ("report.json", False)):
        with_faces.save(tmp_path / name)
        assert ("data:image/jpeg" in (tmp_path / name).read_text()) == seen


def test_a_report_is_saved_by_the_ending_of_its_name(report: Report, tmp_path: Path) -> None:
    for suffix in ("json", "html", "md", "csv", "tex"):
        report.save(tmp_path / f"r.{suffix}")
        assert "colours" in (tmp_path / f"r.{suffix}").read_text()
    with pytest.raises(InputError, match=r"\.html, \.md, \.csv or \.tex, found r\.pdf"):
        report.save(tmp_path / "r.pdf")
