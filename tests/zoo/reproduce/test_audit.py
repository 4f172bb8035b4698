"""What is claimed of a model beside what is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCardData

from tests.support.benchmarks import bench, model, own_cache, write_pairs
from zoo.errors import InputError
from zoo.evaluate import evaluate
from zoo.files import sha256
from zoo.inference.metadata import write_model_info
from zoo.modelinfo import ModelInfo, Origin
from zoo.publish.card import eval_results
from zoo.published.catalogue import catalogue
from zoo.reproduce.audit import Claim, audit, card_claims, read_claims

__all__ = ["bench", "model", "own_cache"]

CPU = {"device": "cpu"}


def write_claims(path: Path, *rows: tuple[str, str, float]) -> Path:
    path.write_text("benchmark,metric,value\n" + "".join(f"{name},{what},{value}\n" for name, what, value in rows))
    return path


def test_claims_stand_beside_the_figures_and_intervals_of_an_evaluation(
    bench: Path, model: Path, tmp_path: Path
) -> None:
    truth = evaluate(model, bench, **CPU)
    assert truth.accuracy is not None and truth.accuracy_interval is not None and truth.auc is not None
    tar = truth.operating_points[0]
    claims = write_claims(
        tmp_path / "c.csv",
        ("colours", "Accuracy", 100 * truth.accuracy),
        ("colours.bin", "roc_auc", truth.auc),
        ("Colours", "tar_at_far_0.1", tar.tar_interval[0] - 0.01),
        ("colours", "equal error rate", 0.9),
        ("colours", "TAR@FAR=1e-4", 0.5),
        ("LFW", "accuracy", 99.8),
    )
    write_pairs(tmp_path / "other.bin", 40)  # nobody claims anything of it
    found = audit(model, tmp_path, claims, **CPU)
    accuracy, auc, low, eer, unmeasurable, absent = found.claims
    assert (accuracy.measured, accuracy.interval) == (truth.accuracy, truth.accuracy_interval)
    assert (auc.measured, low.measured, low.interval) == (truth.auc, tar.tar, tar.tar_interval)
    verdicts = [one.verdict for one in (accuracy, auc, low, eer)]
    assert verdicts == ["holds", "holds", "below what is measured", "above what is measured"]
    assert [one.verdict for one in (unmeasurable, absent)] == ["not measured"] * 2
    assert found.report is not None and [one.data for one in found.report.results] == ["colours.bin"]


def test_a_claim_at_the_edge_of_the_interval_holds_to_the_rounding_of_claims() -> None:
    claim = Claim("LFW", "accuracy", 0.99804, 0.997, (0.996, 0.998))
    assert claim.verdict == "holds"
    assert replace(claim, value=0.99806).verdict == "above what is measured"
    assert replace(claim, value=0.99594).verdict == "below what is measured"


def test_the_card_comes_before_the_metadata_and_the_metadata_before_the_catalogue(
    bench: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"expected figures that are claimed of .*m\.onnx, found none"):
        audit(model, bench, **CPU)
    known = replace(catalogue().models["buffalo_l"], sha256=sha256(model))
    listed = replace(catalogue(), models={"mine": known})
    monkeypatch.setattr("zoo.reproduce.audit.catalogue", lambda: listed)
    found = audit(model, **CPU)
    assert found.source == known.stated_from and found.report is None
    assert [one for one in found.claims if "TAR" in one.metric] == [
        Claim("IJB-C", "TAR@FAR=1e-4", known.stated["IJB-C TAR@FAR=1e-4"])
    ]
    assert Claim("LFW", "accuracy", 0.9983) in found.claims

    told = {"stated": {"LFW": 0.5}, "stated_from": "a paper"}
    write_model_info(model, ModelInfo(8, origin=Origin("n", "s", "h", "c", **told)))
    assert audit(model, **CPU).claims == (Claim("LFW", "accuracy", 0.5),)

    card = {
        "model-index": [{"results": [{"dataset": {"name": "colours.bin"}, "metrics": [{"type": "auc", "value": 1}]}]}]
    }
    model.with_name("README.md").write_text(f"---\n{json.dumps(card)}\n---\n# m\n")
    found = audit(model, bench, **CPU)
    stated = found.claims[0].benchmark, found.claims[0].metric, found.claims[0].value
    assert found.source.endswith("README.md") and stated == ("colours.bin", "auc", 1.0)
    assert found.claims[0].measured is not None


def test_a_model_on_the_hub_is_asked_for_its_card(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    result = {"dataset": {"name": "LFW"}, "metrics": [{"name": "accuracy", "type": "x", "value": 0.75}]}
    text = f"---\n{json.dumps({'model-index': [{'results': [result]}]})}\n---\n"
    (tmp_path / "hub" / "README.md").write_text(text)
    asked: list[tuple[str, object]] = []

    def pull(name: str, files: object) -> object:
        asked.append((name, files))
        return SimpleNamespace(folder=tmp_path / "hub")

    monkeypatch.setattr("zoo.reproduce.audit.pull", pull)
    monkeypatch.setattr(
        "zoo.reproduce.audit.load_model", lambda *_: SimpleNamespace(embedder=SimpleNamespace(path=model))
    )
    found = audit("owner/name")
    assert found.claims == (Claim("LFW", "accuracy", 0.75),) and asked == [("owner/name", ["README.md"])]


def test_the_card_that_zoo_writes_claims_what_was_measured(bench: Path, model: Path) -> None:
    truth = evaluate(model, bench, **CPU)
    facts = ModelCardData(model_name="m", eval_results=eval_results(truth))
    model.with_name("README.md").write_text(f"---\n{facts.to_yaml()}\n---\n")
    found = audit(model, bench, **CPU)
    assert {one.verdict for one in found.claims} == {"holds"}
    assert [one.metric for one in found.claims] == ["accuracy", "AUC", "TAR@FAR 0.1"]


def test_what_is_no_rate_in_a_card_is_passed_over() -> None:
    metrics = [{"type": "flops", "value": 6e9}, {"type": "accuracy", "value": 99.5}, {"type": "auc", "value": "n/a"}]
    results = [{"dataset": {"name": "LFW"}, "metrics": metrics}]
    card = f"---\n{json.dumps({'model-index': [{'results': results}]})}\n---\n"
    assert card_claims(card) == [Claim("LFW", "accuracy", 0.995)]


@pytest.mark.parametrize(
    "card", ["", "# no facts", "---\nlicense: mit\n---\n", "---\n[: \n---\n", "---\nmodel-index: 3\n---\n"]
)
def test_a_card_without_results_claims_nothing(card: str) -> None:
    assert card_claims(card) == []


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "found none"),
        ("benchmark,value\nLFW,99\n", "expected a benchmark, a metric and a value in claim 1"),
        ("benchmark,metric,value\nLFW,accuracy,99\nLFW,auc,high\n", "claim 2 of"),
        ("benchmark,metric,value\nLFW,accuracy,101\n", "expected a fraction or per cent in claim 1"),
        ("benchmark,metric,value\nLFW,accuracy,nan\n", "expected a fraction or per cent in claim 1"),
    ],
)
def test_claims_that_are_none_are_refused_with_their_number(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_claims(tmp_path / "c.csv")
    with pytest.raises(InputError, match="cannot read it"):
        read_claims(tmp_path / "absent.csv")


def test_claims_are_read_from_json_too(tmp_path: Path) -> None:
    row = {"benchmark": "LFW", "metric": "accuracy", "value": 0.99}
    (tmp_path / "c.json").write_text(json.dumps([row]))
    assert read_claims(tmp_path / "c.json") == [Claim("LFW", "accuracy", 0.99)]
    (tmp_path / "c.json").write_text(json.dumps(row))
    with pytest.raises(InputError, match="found none"):
        read_claims(tmp_path / "c.json")


def test_data_without_any_claimed_benchmark_is_refused(bench: Path, model: Path, tmp_path: Path) -> None:
    claims = write_claims(tmp_path / "c.csv", ("LFW", "accuracy", 99.8))
    with pytest.raises(InputError, match=r"a benchmark of the claims at .* \(LFW\), found colours\.bin"):
        audit(model, bench, claims, **CPU)
