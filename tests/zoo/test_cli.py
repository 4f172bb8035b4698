"""The command itself: help, closest names, exit codes, and what the README shows."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.places import ROOT
from zoo import __version__, cli


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run([command, "--help"])
    assert stop.value.code == 0
    assert f"zoo {command}" in capsys.readouterr().out.split("usage:")[1].partition("\n\n")[2]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_no_command_has_thirty_flags(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def count(self: cli.Parser, words: object) -> None:
        seen.append(sum(action.help != argparse.SUPPRESS for action in self._actions))
        sys.exit(0)

    monkeypatch.setattr(cli.Parser, "parse", count)
    with pytest.raises(SystemExit):
        cli.run([command])
    assert seen[0] < 30


COMPUTING = ["adopt", "align", "cluster", "embed", "evaluate", "export", "identify", "index", "inspect", "migrate"]


@pytest.mark.parametrize("command", [*COMPUTING, "serve", "train", "verify"])
def test_every_command_that_computes_takes_threads(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def look(self: cli.Parser, words: object) -> None:
        raise Seen([option for action in self._actions for option in action.option_strings])

    monkeypatch.setattr(cli.Parser, "parse", look)
    with pytest.raises(Seen, match="--threads"):
        cli.run([command])


@pytest.mark.parametrize(
    ("wanted", "quota", "before", "expected"),
    [(3, 8, None, "3"), (3, 8, "5", "3"), (None, 1, None, "1"), (None, 1, "5", "5"), (None, 8, None, None)],
)
def test_libraries_get_the_threads_that_are_wanted_or_a_containers_quota_and_no_longer_than_the_command(
    wanted: int | None, quota: int, before: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "cores", lambda: quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with pytest.raises(ZeroDivisionError), cli.limited_threads(wanted):
        assert os.environ.get("OMP_NUM_THREADS") == expected
        raise ZeroDivisionError
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("threads", ["1", "2"])
def test_torch_computes_with_the_threads_of_the_command(threads: str) -> None:
    program = """
import sys, types
from zoo import cli
def run(args):
    import torch
    print(torch.get_num_threads())
    return 0
command = types.ModuleType("zoo.commands.inspect")
command.add_arguments = lambda parser: parser.add_argument("--threads", type=int)
command.run = run
sys.modules["zoo.commands.inspect"] = command
cli.main(["inspect", "--threads", sys.argv[1]])
"""
    done = subprocess.run([sys.executable, "-c", program, threads], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [threads]


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0 and cli.main(["--help"]) == 0
    assert all(f"zoo {name}" in capsys.readouterr().out for name in ["train"])
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"zoo {__version__}\n"


def test_an_unknown_command_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "no command is called 'trian'; did you mean train?" in capsys.readouterr().err


def test_a_fault_of_ours_exits_70_and_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "run", fail)
    assert cli.main(["train", "x"]) == 70
    error = capsys.readouterr().err
    assert "RuntimeError: a bug" in error and "please report it" in error and "zoo train x" in error


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = f"{sys.executable} -m zoo list heads | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr


def blocks(language: str) -> list[str]:
    """The README's code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(("command", "blas", "after"), [("verify", "1", ""), ("train", None, "after\n")])
def test_verify_answers_in_full_and_leaves_at_once_without_threads_for_matrices(
    command: str, blas: str | None, after: str
) -> None:
    code = (
        "import atexit, os; from zoo import cli; atexit.register(print, 'after');"
        "cli.main = lambda: print(os.environ.get('OPENBLAS_NUM_THREADS')) or 3; cli.console()"
    )
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, env=env)
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, f"{blas}\n{after}", "")


def test_the_readme_shows_code_within_ten_lines_and_fits_on_two_screens() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(len(block.splitlines()) <= 10 for block in [*blocks("python"), *blocks("bash")])
    assert len(text.splitlines()) <= 130


def test_the_readmes_training_code_runs() -> None:
    import torch

    torch.manual_seed(0)
    code = next(block for block in blocks("python") if "MarginSoftmaxLoss" in block)
    scope = {"crops": torch.randn(2, 3, 112, 112), "labels": torch.tensor([3, 941])}
    exec(code, scope)
    assert scope["loss"].weight.grad is not None


def test_the_readmes_onnxruntime_code_gives_zoos_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.backbones import create_backbone
    from zoo.data.synthetic import SyntheticFaces
    from zoo.export.onnx import write_onnx
    from zoo.inference.session import OnnxEmbedder
    from zoo.modelinfo import ModelInfo

    folder = tmp_path / "runs/NAME"
    folder.mkdir(parents=True)
    model = create_backbone("test_resnet", embedding_dim=7, stem="stock", neck="gap").eval()
    write_onnx(model, folder / "model.onnx", ModelInfo(embedding_dim=7))
    crop = SyntheticFaces(2, 1).image(0)
    cv2.imwrite(str(tmp_path / "aligned.png"), crop[..., ::-1])
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(next(block for block in blocks("python") if "onnxruntime" in block), scope)
    ours = OnnxEmbedder(folder / "model.onnx")(crop[None])[0]
    np.testing.assert_allclose(scope["embedding"], ours, atol=1e-5)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text())
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []
