"""zoo index: a folder of people becomes a gallery, which grows and from which people can be removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.toy_faces import write_model, write_people, write_town
from zoo.cli import main
from zoo.recognition.gallery import Gallery


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_town(tmp_path)


MODEL = ("--model", "model.onnx", "--aligned")


def test_a_folder_of_people_is_indexed_with_every_oddity_said(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["people"], told["photos"]) == (4, 5)
    notes = "\n".join(told["notes"])
    for said in (
        "Nobody holds no picture",
        "Ada and ada differ in upper and lower case alone",
        "counted once",
        "one photo under 2 names: Ada and Eve",
        "Broken",
        "no usable photo of Broken",
    ):
        assert said in notes, notes
    assert not (town / "g.partial").exists()


def test_a_gallery_grows_and_people_can_be_removed_again(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    write_people(town / "more", {"Bob": [(3, 7)], "Zoe": [(5, 0)]})
    assert main(["index", "more", "-o", "g", *MODEL]) == 0
    capsys.readouterr()
    assert main(["index", "-o", "g", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Ada": 2, "Bob": 2, "Eve": 1, "ada": 1, "Zoe": 1}
    assert main(["index", "-o", "g", "--remove", "Bob", "--remove", "Eve"]) == 0
    assert Gallery.open("g").names() == ["Ada", "ada", "Zoe"]
    assert main(["index", "-o", "g", "--remove", "Bob"]) == 2
    assert Gallery.open("g").names() == ["Ada", "ada", "Zoe"]


def test_photos_in_the_gallery_already_are_not_embedded_again(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    monkeypatch.setattr("zoo.recognition.verifier.embed", None)
    assert main(["index", "people", "-o", "g", *MODEL]) == 0


def test_another_models_gallery_is_refused_and_stays(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    before = (town / "g").read_bytes()
    write_model(town / "other.onnx", gain=2.0)
    assert main(["index", "people", "-o", "g", "--model", "other.onnx", "--aligned"]) == 2
    assert "another model" in capsys.readouterr().err
    assert (town / "g").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["index", "-o", "g"],
        ["index", "people", "-o", "g", "--list"],
        ["index", "gone", "-o", "g", *MODEL],
        ["index", "people/Nobody", "-o", "g", *MODEL],
        ["index", "people", "-o", "gone/g", *MODEL],
        ["index", "-o", "gone", "--list"],
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_no_file(
    words: list[str], town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(town.rglob("*"))
    assert main(words) == 2
    sentences = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note")]
    assert len(sentences) == 1 and sentences[0].startswith("zoo: "), sentences
    assert sorted(town.rglob("*")) == before


def test_people_may_be_called_as_a_field_of_the_answers_is(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(town / "few", {"notes": [(1, 1)], "Ada": [(1, 2), (2, 2)]})
    assert main(["index", "few", "-o", "few.gallery", *MODEL]) == 0
    capsys.readouterr()
    assert main(["index", "-o", "few.gallery", "--list"]) == 0
    assert capsys.readouterr().out == "     2  Ada\n     1  notes\n"
    assert main(["index", "-o", "few.gallery", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Ada": 2, "notes": 1}
