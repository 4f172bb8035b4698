"""zoo identify: who is who, by exit code, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.toy_faces import DIM, LOOSE, write_model, write_town
from zoo.cli import main
from zoo.formats.images import read_image
from zoo.inference.metadata import write_model_info
from zoo.modelinfo import ModelInfo


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_town(tmp_path)


MODEL = ("--model", "model.onnx", "--aligned")


def test_who_is_who_is_told_with_exit_codes(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    for gallery in ("g", "people"):
        rest = ["--gallery", gallery, *MODEL, "--json"]
        capsys.readouterr()
        assert main(["identify", "bob.png", *rest, "--threshold", "0.9"]) == 0
        (face,) = json.loads(capsys.readouterr().out)["faces"]
        assert face["identified"] == "Bob" and face["candidates"][0]["similarity"] > 0.99
        assert main(["identify", "stranger.png", *rest, "--threshold", "0.9"]) == 1
        assert json.loads(capsys.readouterr().out)["faces"][0]["identified"] is None
        assert main(["identify", "bob.png", *rest, "--top", "2"]) == 3
        assert len(json.loads(capsys.readouterr().out)["faces"][0]["candidates"]) == 2
        assert main(["identify", "bob.png", *rest, "--fpir", "0.01"]) == 2
        assert main(["identify", "bob.png", *rest, "--top", "0"]) == 2


def test_what_people_read_names_the_face_its_candidates_and_the_threshold(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["identify", "bob.png", "--gallery", "people", *MODEL, "--threshold", "0.9", "--top", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "face 1: Bob" and lines[1].endswith("  Bob") and len(lines) == 4
    assert lines[-1] == "threshold   0.9000: given with --threshold"
    assert "note: people/Nobody holds no picture: left out" in err


def test_writing_thresholds_into_the_model_keeps_its_galleries_valid(town: Path) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    write_model_info("model.onnx", ModelInfo(DIM, thresholds=(replace(LOOSE, far=0.001, threshold=0.95),)))
    assert main(["identify", "bob.png", "--gallery", "g", *MODEL, "--fpir", "0.01"]) == 0


def test_a_folder_is_identified_photo_by_photo(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (town / "broken.png").write_bytes(b"damaged")
    rest = ["--gallery", "people", *MODEL, "--threshold", "0.9"]
    assert main(["identify", "bob.png", "broken.png", "stranger.png", *rest, "--json"]) == 0
    out, err = capsys.readouterr()
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["path"] for one in told] == ["bob.png", "stranger.png"] and "note: " in err and "broken.png" in err
    assert told[0]["faces"][0]["identified"] == "Bob"
    assert main(["identify", "stranger.png", "broken.png", *rest]) == 1
    assert capsys.readouterr().out.startswith("stranger.png\nface 1: nobody\n")
    assert main(["identify", "broken.png", "broken.png", *rest]) == 2
    assert main(["identify", "bob.png", "ada.png", *rest, "--draw", "o.png"]) == 2


def test_another_models_gallery_is_refused(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    write_model(town / "other.onnx", gain=2.0)
    assert main(["identify", "ada.png", "--gallery", "g", "--model", "other.onnx", "--aligned"]) == 2
    assert "another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "ada.png", "--gallery", "gone", *MODEL],
        ["identify", "ada.png", "--gallery", "people/Nobody", *MODEL],
        ["identify", "gone.png", "--gallery", "people", *MODEL],
        ["identify", "ada.png", "--gallery", "people", *MODEL, "--draw", "x.gif"],
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


def test_everybody_known_on_a_group_photo_is_named_and_drawn(shared: Path, tmp_path: Path) -> None:
    models, photos = shared / "models", shared / "photos"
    for person in "abcde":
        (tmp_path / "people" / person).mkdir(parents=True)
        (tmp_path / "people" / person / "1.jpg").symlink_to(photos / f"person_{person}_1.jpg")
    words = ["--model", str(models / "mobilefacenet.onnx")]
    words += ["--detector", str(models / "face_detection_yunet_2026may.onnx"), "--threshold", "0.35"]
    out = tmp_path / "answer.png"
    selfie = str(photos / "group_selfie-many-people.jpg")
    assert main(["identify", selfie, "--gallery", str(tmp_path / "people"), *words, "--draw", str(out)]) == 0
    drawn, photo = read_image(out), read_image(selfie)
    assert drawn.shape == photo.shape and (drawn != photo).any()
    for person in "abcde":
        other = photos / f"person_{person}_2.jpg"
        assert main(["identify", str(other), "--gallery", str(tmp_path / "people"), *words, "--top", "1"]) == 0
