"""zoo migrate as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.toy_faces import write_model, write_people
from zoo import cli


def test_a_gallery_moves_with_its_photos_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(tmp_path / "people", {"ada": [(1, 1)], "bob": [(2, 1)]})
    old, new = write_model(tmp_path / "old.onnx"), write_model(tmp_path / "new.onnx", gain=2.0)
    gallery, moved = str(tmp_path / "old.gallery"), str(tmp_path / "new.gallery")
    people = str(tmp_path / "people")
    assert cli.main(["index", people, "-o", gallery, "--model", str(old), "--aligned"]) == 0
    capsys.readouterr()
    words = ["migrate", gallery, "--to", str(new), "--aligned", "--json", "-o", moved]
    assert cli.main([*words, "--photos", people]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["people"] == 2 and record["migrated"].startswith("photos embedded again, from model ")
    assert cli.main(words) == 2
    assert "expected either --photos DIR, or --from MODEL with --learn DIR" in capsys.readouterr().err
    assert cli.main([*words, "--from", str(old)]) == 2
