"""Many trainings compared: a reproduction that is killed and goes on, its tables, and when a gain is one."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.training import TINY, start, weights
from zoo import cli
from zoo.errors import InputError
from zoo.evaluate.intervals import pack
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.evaluate.results import Curves, Evaluation, Identification, RocPoints
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_jpeg
from zoo.reproduce.tables import Cell, gains, markdown, mean_curves, read_stated, roc_figure, spreads
from zoo.train.config import load_config

HEADS = ("arcface", "recurricularface")
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


def prepare(folder: Path, pairs: int = 30) -> Path:
    """A recipe and a benchmark of drawn faces."""
    from zoo.data.synthetic import synthetic_pairs

    recipe = {name: value for name, value in TINY.items() if name != "data"} | {"checkpoint_every": 2, "epochs": 2}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "benchmarks").mkdir()
    images, same = synthetic_pairs(pairs=pairs, seed=3)
    write_bin(folder / "benchmarks/drawn.bin", [encode_jpeg(image) for image in images], same)
    return folder


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
    monkeypatch.setattr("zoo.evaluate.benchmarks.runner.load_model", None)
    before = (folder / "out/reproduction.md").read_text()
    assert cli.main(words(folder, "--set", "threads=2")) == 0, "threads do not decide the weights"
    assert (folder / "out/reproduction.md").read_text().replace(" --set threads=2", "") == before


def test_a_signal_stops_with_its_exit_code(
    reproduction: tuple[Path, dict[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.train.signals import Interrupted

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
        (["--recipe", "none.yaml"], "expected a file of training options at none.yaml, found none"),
        (["--heads", "arcfase"], "did you mean arcface"),
        (["--heads", "arcface", "arcface"], "expected each of --heads once"),
        (["--set", "head=arcface"], "expected --heads in place of --set head"),
        (["--set", "seed=3"], "expected --seeds in place of --set seed"),
        (["--set", "batch_size=99"], "expected at least one batch of 99"),
        (["--set", "device=gpu"], "expected --device auto, cpu, cuda or cuda:N"),
        (["--set", "head_options.marign=0.3"], "marign"),
        (["--data", "nothing-there"], "nothing-there"),
        (["-o", "tiny.yaml/out"], "expected a folder for --output"),
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
    assert not (tmp_path / "out/reproduction.md").exists()


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
    assert told.count("as stated |") == 2 and "quoted from" in told and "not measured here: lfw accuracy arc" in told
    assert "are not quoted here" in before and "as stated |" not in before
    assert cli.main(words(folder)) == 0
    assert (folder / "out/reproduction.md").read_text() == before


@pytest.mark.parametrize(
    "line", ["lfw,accuracy,arcface", "lfw,accuracy,arcface,101", "lfw,accuracy,arcface,x", "a,b,c,1,2"]
)
def test_a_stated_figure_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "stated.csv").write_text(f"# a comment\nbenchmark,figure,head,percent\nlfw,AUC,arcface,99\n{line}\n")
    with pytest.raises(InputError, match=r"in line 4 of .*stated\.csv"):
        read_stated(tmp_path / "stated.csv")


def test_a_figure_stated_twice_is_refused_and_a_spreadsheets_mark_is_not(tmp_path: Path) -> None:
    rows = "benchmark,figure,head,percent\nlfw,AUC,arcface,99\n"
    (tmp_path / "stated.csv").write_text("\ufeff" + rows)
    assert read_stated(tmp_path / "stated.csv") == {("lfw", "auc", "arcface"): 0.99}
    (tmp_path / "stated.csv").write_text(rows + "LFW.bin,auc,ArcFace,98\n")
    with pytest.raises(InputError, match=r"found lfw auc arcface again in line 3"):
        read_stated(tmp_path / "stated.csv")


def test_a_head_without_a_recipe_of_the_paper_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path, pairs=3)
    line = [word for word in words(tmp_path) if word not in ("--recipe", str(tmp_path / "tiny.yaml"))]
    assert cli.main([*line, "--heads", "circle"]) == 2
    assert "name one for all by --recipe" in capsys.readouterr().err


def made_up(head: str, seed: int, right: np.ndarray[Any, Any]) -> Cell:
    """A cell on one benchmark of pairs, of which the model has `right` right."""
    roc = RocPoints([0.0, 0.1, 1.0], [0.1 * (seed + 1), 0.5, 1.0])
    found = Evaluation(
        *("pairs", "made.bin", "", None),
        pairs=len(right),
        negatives=len(right) // 2,
        accuracy=float(right.mean()),
        auc=0.5,
        tar_at_far={0.1: 0.25, 0.001: math.nan},
        curves=Curves(roc=roc, right=pack(right)),
    )
    return cell_of(head, seed, found)


def cell_of(head: str, seed: int, found: Evaluation) -> Cell:
    return Cell(head, seed, Report(ModelFacts(head), (found,)))


def first_right(count: int, pairs: int = 1000) -> np.ndarray[Any, Any]:
    return np.arange(pairs) < count


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ([(700, 800), (701, 803), (699, 798)], "better"),
        ([(800, 700), (803, 701), (798, 699)], "worse"),
        ([(700, 800), (701, 700), (699, 798)], "no difference shown"),
        ([(700, 710), (700, 780), (700, 900)], "no difference shown"),
        ([(700, 701), (700, 701), (700, 701)], "no difference shown"),
        ([(700, 800)], "better at one seed"),
    ],
    ids=str,
)
def test_a_gain_is_one_when_pairs_and_seeds_both_show_it(counts: list[tuple[int, int]], verdict: str) -> None:
    cells = [
        made_up(head, seed, first_right(count))
        for seed, both in enumerate(counts)
        for head, count in zip(HEADS, both, strict=True)
    ]
    (gain,) = gains(cells, HEADS[1])
    assert gain.verdict == verdict
    assert gain.mean == pytest.approx(np.mean([b - a for a, b in counts]) / 1000)
    if gain.interval:
        from scipy import stats

        values = np.array([b - a for a, b in counts]) / 1000
        if np.ptp(values) > 0:
            expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            np.testing.assert_allclose(gain.interval, expected)
    assert verdict in markdown(cells, HEADS[1])


def test_seeds_that_one_head_lacks_are_in_no_difference() -> None:
    cells = [made_up("arcface", seed, first_right(700)) for seed in range(3)]
    cells += [made_up("recurricularface", 1, first_right(800))]
    (gain,) = gains(cells, "recurricularface")
    assert list(gain.seeds) == [1]
    assert "| arcface (3 seeds) | recurricularface (1 seed) |" in markdown(cells, "recurricularface")


def test_what_a_benchmark_cannot_measure_is_no_row() -> None:
    rows = spreads([made_up("arcface", 0, first_right(7, 10))])["pairs"]
    assert [label for _, label, _ in rows] == ["accuracy", "AUC", "TAR@FAR 0.1"]


def test_templates_and_searches_get_tables_of_their_own() -> None:
    search = Identification(9, 9, {1: 0.7}, {1: (0.6, 0.8)}, {0.01: 0.6, 0.1: math.nan})
    found = Evaluation(
        *("ijb", "IJB-C", "", None),
        negatives=10,
        auc=0.9,
        tar_at_far={0.0001: 0.8},
        identification={"G1": search},
    )
    tables = spreads([cell_of("arcface", 0, found)])
    assert [label for _, label, _ in tables["ijb"]] == ["AUC", "TAR@FAR 0.0001"]
    assert [label for _, label, _ in tables["search"]] == ["G1 rank 1", "G1 TPIR@FPIR 0.01"]


def test_the_roc_of_several_seeds_is_their_mean_at_each_rate() -> None:
    cells = [made_up("arcface", seed, first_right(7, 10)) for seed in (0, 1, 2)]
    curves = mean_curves(cells)["made.bin"]["arcface"]
    for far, mean, low, high in zip(curves.far, curves.mean, curves.low, curves.high, strict=True):
        at = [0.1 * (seed + 1) if far < 0.1 else 0.5 if far < 1 else 1.0 for seed in (0, 1, 2)]
        assert (mean, low, high) == pytest.approx((np.mean(at), min(at), max(at)))
    (axes,) = roc_figure(cells).axes
    assert axes.get_xscale() == "log" and [line.get_label() for line in axes.lines] == ["arcface"]
