"""`zoo reproduce`: killed and continued, with its tables; wrong input is one sentence and leaves no cell."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.reproducing import HEADS, prepare
from tests.support.training import start, weights
from zoo import cli
from zoo.train.config import load_config

KILLED = "recurricularface-seed0"


def words(folder: Path, *more: str) -> list[str]:
    """The command line of the tiny reproduction in `folder`: two heads, two seeds."""
    return [
        "reproduce",
        *("--data", "synthetic:5x7", "--benchmarks", str(folder / "benchmarks")),
        *("--recipe", str(folder / "tiny.yaml"), "--seeds", "2", "-o", str(folder / "out"), "--quiet"),
        *("--heads", *HEADS),
        *more,
    ]


def run_until_killed(folder: Path, step: int) -> None:
    """The reproduction, killed by SIGKILL right after the checkpoint of `step` in the cell KILLED."""
    from zoo.train import checkpoint

    save = checkpoint.save

    def deadly(state: Any, place: Path, at: int, *options: Any) -> Path:
        saved = save(state, place, at, *options)
        if KILLED in str(place) and at == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return saved

    checkpoint.save = deadly
    os._exit(cli.main(words(folder)))


@pytest.fixture(scope="module")
def reproduction(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A reproduction killed in its second cell and given the same command again; when its files were written before."""
    folder = prepare(tmp_path_factory.mktemp("reproduction"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.train.loop", "zoo.train.checkpoint"])
    process = context.Process(target=run_until_killed, args=(folder, 6))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    out = folder / "out"
    assert (out / "arcface-seed0/.evaluated").exists() and not (out / KILLED / ".trained").exists()
    told = (out / "reproduction.md").read_text()
    assert (
        "Not finished, and in no figure below: recurricularface seed 0, arcface seed 1, recurricularface seed 1" in told
    )
    before = {str(file): file.stat().st_mtime_ns for file in (out / "arcface-seed0").rglob("*") if file.is_file()}
    assert cli.main(words(folder)) == 0
    return folder, before


def test_a_finished_cell_is_never_done_again(reproduction: tuple[Path, dict[str, int]]) -> None:
    _, before = reproduction
    assert len(before) > 10
    assert {file: Path(file).stat().st_mtime_ns for file in before} == before


def test_a_killed_cell_ends_with_the_weights_of_one_that_was_not(
    reproduction: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    from zoo.train.loop import train

    killed = reproduction[0] / "out" / KILLED
    config = load_config(killed / "config.yaml")
    train(config, start(config, tmp_path / "whole"))
    mine, theirs = weights(killed), weights(tmp_path / "whole")
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_the_tables_are_the_means_and_deviations_of_the_cells_reports(
    reproduction: tuple[Path, dict[str, int]],
) -> None:
    out = reproduction[0] / "out"
    table = (out / "reproduction.md").read_text()
    assert "Not finished" not in table and "![ROC](roc.svg)" in table
    record = json.loads((out / "reproduction.json").read_text())
    for figure, key in (("accuracy", "accuracy"), ("AUC", "auc")):
        row = re.search(rf"\| drawn\.bin \| {figure} \|(.*)\|\n", table)
        assert row is not None
        for head, printed in zip(HEADS, row[1].split("|"), strict=True):
            values = [
                json.loads((out / f"{head}-seed{seed}/report.json").read_text())["results"][0][key] for seed in (0, 1)
            ]
            mean, std = 100 * np.mean(values), 100 * np.std(values, ddof=1)
            assert printed.strip() == f"{mean:.2f} ± {std:.2f}"
            entry = next(entry for entry in record["figures"] if entry["figure"] == figure)["heads"][head]
            assert entry["values"] == values
    assert (out / "roc.png").read_bytes()[:4] == b"\x89PNG" and "<svg" in (out / "roc.svg").read_text()


def test_all_finished_means_no_training_and_no_embedding(
    reproduction: tuple[Path, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = reproduction
    monkeypatch.setattr("zoo.train.loop.train", None)
    monkeypatch.setattr("zoo.reproduce.grid.load_model", None)
    before = (folder / "out/reproduction.md").read_text()
    assert cli.main(words(folder, "--set", "threads=2")) == 0, "threads do not decide the weights"
    assert (folder / "out/reproduction.md").read_text().replace(" --set threads=2", "") == before


def test_a_signal_stops_with_its_exit_code(
    reproduction: tuple[Path, dict[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.train.start import Interrupted

    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGTERM, 3)

    monkeypatch.setattr("zoo.train.loop.train", stopped)
    folder, _ = reproduction
    assert cli.main([*words(folder), "--seeds", "3"]) == 143
    assert "give the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "lr=0.06"], "found other values for lr;"),
        (["--set", "epochs=3", "--set", "dropout=0.1"], "found other values for dropout, epochs;"),
        (["--data", "synthetic:6x7"], "found other values for data, training set;"),
    ],
)
def test_changed_options_are_refused(
    reproduction: tuple[Path, dict[str, int]], more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = reproduction
    plan = (folder / "out/plan.json").read_text()
    assert cli.main(words(folder, *more)) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in sentence.split()) and error.count("\n") == 1
    assert (folder / "out/plan.json").read_text() == plan


def test_another_benchmark_is_refused(
    reproduction: tuple[Path, dict[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = prepare(tmp_path, pairs=20)
    assert cli.main([*words(reproduction[0]), "--benchmarks", str(other / "benchmarks")]) == 2
    assert "found other values for benchmarks;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--seeds", "0"], "expected --seeds to be at least 1, found 0"),
        (["--benchmarks", "nowhere"], "at nowhere, found nothing"),
        (["--benchmarks", "empty"], "under empty, found none"),
        (["--recipe", "quick-gpu"], "no recipe is called 'quick-gpu'; did you mean quick-cpu"),
        (
            ["--recipe", "none.yaml"],
            "expected a YAML file of training options at none.yaml, cannot read it (No such file",
        ),
        (["--heads", "arcfase"], "did you mean arcface"),
        (["--heads", "arcface", "arcface"], "expected each of --heads once"),
        (["--set", "head=arcface"], "expected --heads in place of --set head"),
        (["--set", "seed=3"], "expected --seeds in place of --set seed"),
        (["--set", "batch_size=99"], "expected at least one batch of 99"),
        (["--set", "device=gpu"], "expected --device auto, cpu, cuda or cuda:N"),
        (["--set", "head_options.marign=0.3"], "marign"),
        (["--data", "nothing-there"], "nothing-there"),
        (["-o", "tiny.yaml/out"], "cannot create the folder tiny.yaml/out"),
        (["--stated", "none.csv"], "expected quoted figures as CSV in none.csv, cannot read it"),
        (["--stated", "tiny.yaml"], "expected the columns benchmark,figure,head,percent in tiny.yaml"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, pairs=3)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(words(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("config.yaml"))
    assert not (tmp_path / "out").exists()


STATED = """# the example's own table 1
benchmark, figure, head, percent
drawn, Accuracy, arcface, 99.5

DRAWN.bin, tar@far 1e-1, recurricularface, 12
LFW, accuracy, arcface, 98
"""


def test_stated_figures_stand_below_ours_and_are_said_to_be_quoted(
    reproduction: tuple[Path, dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = reproduction
    assert cli.main(words(folder)) == 0
    before = (folder / "out/reproduction.md").read_text()
    (folder / "stated.csv").write_text(STATED)
    assert cli.main(words(folder, "--stated", str(folder / "stated.csv"))) == 0
    told = (folder / "out/reproduction.md").read_text()
    assert re.search(r"\| drawn\.bin \| accuracy \|.*\n\|  \| as stated \| 99\.50 \|  \|\n", told)
    assert re.search(r"\| drawn\.bin \| TAR@FAR 0\.1 \|.*\n\|  \| as stated \|  \| 12\.00 \|\n", told)
    assert told.count("as stated |") == 2 and "stated.csv: not measured here are lfw" in told
    assert "quoted from Tables 1 to 3 of Sang & Yang" in before and "as stated |" not in before
    assert "2024.080201: not measured here are lfw, agedb30, cfpfp, ijbb, ijbc, tinyface" in before
    assert cli.main(words(folder)) == 0
    assert (folder / "out/reproduction.md").read_text() == before


def test_a_head_without_a_recipe_of_the_paper_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path, pairs=3)
    line = [word for word in words(tmp_path) if word not in ("--recipe", str(tmp_path / "tiny.yaml"))]
    assert cli.main([*line, "--heads", "circle"]) == 2
    assert "name one for all by --recipe" in capsys.readouterr().err
