"""zoo verify: exit codes, thresholds, lists of pairs, drawings and wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.toy_faces import LOOSE, STRICT, crop, write_model, write_people
from zoo.cli import main
from zoo.formats.images import encode_png, read_image
from zoo.modelinfo import ModelInfo
from zoo.recognition.verifier import FaceVerifier


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model and three crops, two of them of one "person"."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    for name, seed in (("a1", 1), ("a2", 1), ("b", 2)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(crop(seed)))
    return tmp_path


def verify(*words: str) -> int:
    return main(["verify", *words, *(() if "--detector" in words else ("--aligned",))])


def test_the_exit_code_tells_same_different_and_unknown(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "model.onnx")
    assert verify("a1.png", "a2.png", *model, "--threshold", "0.9") == 0
    assert "the same person" in capsys.readouterr().out
    assert verify("a1.png", "b.png", *model, "--threshold", "0.9") == 1
    assert "different people" in capsys.readouterr().out
    assert verify("a1.png", "a2.png", *model) == 3
    out = capsys.readouterr().out
    assert "similarity  1.0000" in out and "--threshold" in out
    assert verify("a1.png", "gone.png", *model) == 2


def test_the_default_is_the_smallest_stored_far_and_another_can_be_asked_for(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(LOOSE, STRICT)))
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["threshold"], answer["far"], answer["same"]) == (0.9, 0.01, True)
    assert "made up" in answer["origin"] and "10 of 1,000" in answer["origin"]
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--json", "--far", "0.1") == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == 0.2


def test_a_far_that_was_not_measured_is_refused_with_the_known_ones(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(LOOSE, STRICT)))
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--far", "0.001") == 2
    assert "(0.01, 0.1), found 0.001" in capsys.readouterr().err


def test_without_a_model_the_newest_exported_run_is_taken_and_else_one_sentence_helps(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("a1.png", "a2.png", "--threshold", "0.9") == 2
    assert "pass --model" in capsys.readouterr().err
    for number, name in enumerate(("first", "second", "unfinished")):
        (room / "runs" / name).mkdir(parents=True)
        (room / "runs" / name / "config.yaml").write_text("{}")
        if name != "unfinished":
            write_model(room / "runs" / name / "model.onnx")
        os.utime(room / "runs" / name / "config.yaml", (1000 + number, 1000 + number))
    assert verify("a1.png", "a2.png", "--threshold", "0.9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/second/model.onnx"
    assert verify("a1.png", "a2.png", "--threshold", "0.9", "--json", "--model", "first") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/first/model.onnx"
    assert verify("a1.png", "a2.png", "--model", "unfinished") == 2
    assert "zoo export" in capsys.readouterr().err


def test_wrong_input_is_one_sentence_that_names_the_file(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (room / "text.jpg").write_text("this is no picture")
    (room / "folder.jpg").mkdir()
    (room / "text.onnx").write_text("this is no model")
    cases = {
        ("a1.png", "gone.jpg"): "gone.jpg",
        ("a1.png", "text.jpg"): "text.jpg",
        ("a1.png", "folder.jpg"): "folder.jpg",
        ("a1.png", "a2.png", "--model", "gone.onnx"): "gone.onnx",
        ("a1.png", "a2.png", "--model", "text.onnx"): "text.onnx",
        ("a1.png", "a2.png", "--detector", "gone.onnx"): "gone.onnx",
        ("a1.png", "a2.png", "--detector", "text.jpg"): "text.jpg",
    }
    for words, named in cases.items():
        model = () if "--model" in words else ("--model", "model.onnx")
        assert verify(*words, *model) == 2, words
        error = capsys.readouterr().err
        assert named in error and len(error.splitlines()) == 1, error


def test_verify_loads_no_training_library(room: Path) -> None:
    heavy = {"torch", "timm", "albumentations", "scipy", "matplotlib", "onnx"}
    program = (
        "import sys; from zoo.cli import main\n"
        "status = main(['verify', 'a1.png', 'a2.png', '--model', 'model.onnx', '--threshold', '0.9', '--aligned'])\n"
        f"print(status, sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=room, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


def test_the_answer_is_drawn_whatever_the_verdict(room: Path) -> None:
    model = ("--model", "model.onnx")
    assert verify("a1.png", "a2.png", *model, "--draw", "o.jpg") == 3
    assert verify("a1.png", "b.png", *model, "--threshold", "0.9", "--draw", "o.png") == 1
    assert read_image("o.jpg").shape == read_image("o.png").shape


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    write_people(tmp_path / "people", {"a": [(1, 1), (1, 2)], "b": [(2, 1), (2, 2)]})
    rows = ["a,b,same"]
    rows += [f"people/{p}/{i}.png,people/{q}/{j}.png,{int(p == q)}" for p, i, q, j in ALL]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


ALL = [("a", 0, "a", 1), ("b", 0, "b", 1), ("a", 0, "b", 0), ("a", 1, "b", 1), ("a", 0, "b", 1)]
WORDS = ("verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--aligned")


def test_a_list_of_pairs_gives_each_pairs_own_similarity_and_the_rocs_figures(
    people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--threshold", "0.9", "--json", "--draw", "roc.png"]) == 0
    told = json.loads(capsys.readouterr().out)
    verifier = FaceVerifier("model.onnx", aligned=True)
    for row in told["pairs"]:
        assert row["similarity"] == pytest.approx(verifier.verify(row["a"], row["b"]).similarity, abs=1e-6)
    assert told["failed"] == 0 and told["summary"]["auc"] == 1.0
    assert (told["summary"]["right"], told["summary"]["judged"]) == (5, 5)
    assert read_image("roc.png").shape[2] == 3
    assert main(list(WORDS)) == 0
    assert "every threshold from" in capsys.readouterr().out


def test_pairs_that_fail_are_counted_and_kept_in_their_rows(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (people / "people" / "a" / "1.png").write_bytes(b"damaged")
    assert main([*WORDS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == 2
    assert [row["similarity"] is None for row in told["pairs"]] == [True, False, False, True, False]
    assert all("1.png" in row["reason"] for row in told["pairs"] if row["reason"])
    assert main(list(WORDS)) == 0
    out = capsys.readouterr().out
    assert "of which 2 failed" in out and "failed" in out.splitlines()[1]


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "x.png", "y.png", "--pairs", "pairs.csv"],
        ["verify", "x.png"],
        ["verify"],
        ["verify", "--pairs", "gone.csv", "--model", "model.onnx"],
        ["verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--face", "all"],
        ["verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--draw", "roc.svg"],
    ],
)
def test_wrong_lists_are_one_sentence(words: list[str], people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
