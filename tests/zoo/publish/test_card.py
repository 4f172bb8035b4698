"""The model card says what the records say, and nothing of its owner's machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.files import write_json
from zoo.publish.card import License, card_of_run, cell, may_be_told, to_html

APACHE = License("apache-2.0")


@pytest.mark.parametrize("words", [("other",), ("other", "mine"), ("Apache 2",), ("other", "mine", "http://x.example")])
def test_a_license_is_named_in_full(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        License(*words)


def test_a_card_says_what_the_report_says(run: Path) -> None:
    card = card_of_run(run, "o/m", APACHE)
    record = json.loads((run / "report.json").read_text())
    (result,) = record["results"]
    assert f"{result['accuracy']:.6f}" in card and f"{result['auc']:.6f}" in card
    assert record["model"]["sha256"] in card and result["data_sha256"] in card
    assert "arcface" in card and "not measurable" in card and "has never seen a real one" in card
    assert card == card_of_run(run, "o/m", APACHE)


def test_a_cards_metadata_is_what_the_hub_reads(run: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(card_of_run(run, "o/m", License("other", "research only", "https://x.example/terms"))).data
    assert data.license == "other" and data.license_name == "research only" and data.library_name == "timm"
    assert data.pipeline_tag == "image-feature-extraction"
    assert {"timm", "face-recognition", "face-verification", "onnx", "arcface"} <= set(data.tags)
    record = json.loads((run / "report.json").read_text())
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found["accuracy"] == round(record["results"][0]["accuracy"], 6)
    assert None not in found.values()


def test_text_from_a_run_stays_in_its_cell() -> None:
    assert cell("a|b\n<script>x</script> [l](u)") == r"a\|b \<script\>x\</script\> \[l\](u)"


def test_a_page_of_a_card_runs_no_markup_of_a_run(copy: Path) -> None:
    record = json.loads((copy / "report.json").read_text())
    record["results"][0]["data"] = "<img src=x onerror=alert(1)>|"
    write_json(copy / "report.json", record)
    page = to_html(card_of_run(copy, "o/<b>"), "o/<b>")
    assert "<img" not in page and "<b>" not in page and "<table>" in page and "://" not in page.partition("<body>")[0]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("epochs", 12, True), ("data", "x", False), ("recipe", "/home/me/x.yaml", False), ("milestones", None, False)],
)
def test_a_recipe_tells_nothing_of_a_machine(option: str, value: object, told: bool) -> None:
    assert may_be_told(option, value) is told


@pytest.mark.parametrize("folder", sorted((ROOT / "model_cards").glob("*/")), ids=lambda f: f.name)
def test_the_cards_in_the_repository_are_what_their_records_say(folder: Path) -> None:
    """Each folder holds the card and the records it was rendered from."""
    from zoo.evaluate.report.record import Report
    from zoo.modelinfo import ModelInfo
    from zoo.publish.card import figures_in, recipe_in, render_card

    info = ModelInfo.from_json((folder / "facts.json").read_text())
    report = Report.read(folder / "report.json")
    assert (folder / "README.md").read_text() == render_card(
        info, report, recipe_in(folder), f"owner/{folder.name}", figures=figures_in(folder)
    )
