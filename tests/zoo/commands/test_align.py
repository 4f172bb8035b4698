"""zoo align: what it prints, and wrong input in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.cli import main


def test_the_counts_and_the_log_are_printed(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos" / "ada").mkdir(parents=True)
    (tmp_path / "photos" / "ada" / "1.jpg").write_bytes((shared / "photos" / "person_a_1.jpg").read_bytes())
    (tmp_path / "photos" / "text.jpg").write_text("no picture")
    words = ["align", str(tmp_path / "photos"), str(tmp_path / "crops")]
    words += ["--detector", str(shared / "models" / "face_detection_yunet_2026may.onnx"), "--format", "jpg"]
    assert main(words) == 0
    crops = tmp_path / "crops"
    assert capsys.readouterr().out == f"{crops}: 1 crops of 2 photos, 1 skipped (why: {crops / 'align.jsonl'})\n"
    assert (crops / "ada" / "1.jpg.jpg").is_file()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"photos": 2, "crops": 1, "skipped": 1}
    assert main([*words, "--size", "224"]) == 2
    assert "another size" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["gone", "crops"], ["photos", "photos/crops"], ["photos", "crops"], ["photos", "crops", "--size", "9"]],
)
def test_wrong_input_is_one_sentence_and_leaves_no_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert main(["align", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["photos"]
