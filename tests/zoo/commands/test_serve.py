"""`zoo serve` from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import TOKEN
from tests.support.toy_faces import write_model
from zoo.cli import main
from zoo.inference.convention import GivenInput
from zoo.serve import Limits, Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    found: list[Settings] = []
    monkeypatch.setattr("zoo.serve.server.serve", found.append)
    return found


def test_the_options_become_settings(asked: list[Settings], tmp_path: Path) -> None:
    words = f"serve --model m.onnx --gallery g --enrol --token-file {tmp_path / 't'} --host 0.0.0.0 --port 9 --far 0.1"
    words += " --allow-host a.example --allow-host b.example --workers 2 --queue 7 --max-body 2.5 --detector d.onnx"
    words += " --bgr"
    assert main(words.split()) == 0
    assert asked == [
        Settings(
            model="m.onnx",
            gallery="g",
            detector="d.onnx",
            enrol=True,
            token_file=tmp_path / "t",
            host="0.0.0.0",
            port=9,
            far=0.1,
            allow_host=("a.example", "b.example"),
            workers=2,
            input=GivenInput(bgr=True),
            limits=Limits(queue=7, max_body=2.5),
        )
    ]


def test_the_defaults_are_loopback_and_read_only(asked: list[Settings]) -> None:
    assert main(["serve", "--model", "m.onnx"]) == 0
    assert asked == [Settings(model="m.onnx")] and asked[0].is_loopback and not asked[0].enrol


def test_an_unsafe_command_line_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", "m.onnx", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err


def test_a_gallery_that_is_not_there_ends_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_model(tmp_path / "m.onnx"))
    words = ["serve", "--model", model, "--aligned", "--port", "0", "--gallery", str(tmp_path / "none")]
    assert main(words) == 2
    assert "expected a gallery" in capsys.readouterr().err


def test_without_the_extra_the_sentence_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "zoo.serve.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--model", "m.onnx"]) == 2
    assert "pip install 'timm-face-zoo[serve]'" in capsys.readouterr().err


def test_serving_loads_no_torch() -> None:
    program = "import sys, zoo.serve.server; sys.exit(bool({'torch', 'timm', 'albumentations'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert len(TOKEN) > 32
