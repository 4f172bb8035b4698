"""The model card says what the records say, and nothing of its owner's machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.files import write_json
from zoo.modelinfo import ModelInfo, Origin
from zoo.publish.card import License, card_of_run, cell, may_be_told, render_card, to_html

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
    from zoo.publish.card import figures_in
    from zoo.runs import options_in

    info = ModelInfo.from_json((folder / "facts.json").read_text())
    report = Report.read(folder / "report.json")
    given = License(info.license) if info.license else None
    assert (folder / "README.md").read_text() == render_card(
        info, report, options_in(folder), f"owner/{folder.name}", given, figures=figures_in(folder)
    )


def adopted(**more: object) -> ModelInfo:
    origin = Origin(
        **{
            **{
                "name": "face-r18",
                "file": "somebody/face:r18.ckpt",
                "sha256": "ab" * 32,
                "convention": "adaface (https://x)",
            },
            **{"authors": "A. Author", "paper": "https://arxiv.org/abs/1", "license": "non-commercial"},
            **{"data_license": "research only", "consent": "no: from the web", "stated": {"LFW": 0.9953}},
            **{"stated_from": "https://x.example/readme"},
        }
    )
    return ModelInfo(16, backbone="iresnet18", training_set="webface4m", origin=origin, **more)


def test_the_card_of_an_adopted_model_says_who_trained_it_and_what_was_only_stated() -> None:
    from huggingface_hub import ModelCard

    card = render_card(adopted(), None, {}, "me/face", APACHE)
    assert "Trained by others and converted by zoo: face-r18, by A. Author (<https://arxiv.org/abs/1>)" in card
    assert "Stated by its authors (<https://x.example/readme>), not measured here: LFW 99.53 %." in card
    assert "| license of these weights | non-commercial |" in card and "| no: from the web |" in card
    assert "Converted, measured and published with zoo" in card and "Trained, measured" not in card
    data = ModelCard(card).data
    assert (data.base_model, data.datasets) == ("somebody/face", ["webface4m"]) and data.license == "apache-2.0"
    own = render_card(ModelInfo(16, backbone="iresnet18", head="arcface"), None, {}, "me/face", APACHE)
    assert "## Origin" not in own and "Trained, measured and published with zoo" in own


def test_a_fine_tuned_model_keeps_the_origin_and_tells_no_stated_figure_as_its_own() -> None:
    card = render_card(adopted(head="arcface(margin=0.5)"), None, {"data": "hf://datasets/o/faces"}, "me/face", APACHE)
    assert "Fine-tuned with zoo from weights that others trained: face-r18" in card and "99.53" not in card
    assert "Fine-tuned, measured and published" in card and "datasets:\n- o/faces" in card
