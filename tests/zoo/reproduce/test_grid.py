"""A grid as a Python call: its plan, its command line, and what an earlier version of it left on disk."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reproducing import first_right, made_up, prepare
from zoo.cli import Parser
from zoo.commands import reproduce as command
from zoo.errors import InputError
from zoo.reproduce.grid import HEADS, Grid, last_loss, notes, reproduce, write_page
from zoo.reproduce.tables import Cell
from zoo.train.config import load_config


def grid_in(folder: Path, **options: object) -> Grid:
    given = {"epochs": 1, "checkpoint_every": None, **options}
    return Grid(
        "synthetic:5x7", str(folder / "benchmarks"), folder / "out", ("arcface",), 1, str(folder / "tiny.yaml"), given
    )


def test_all_heads_of_a_seed_come_before_the_next_seed(tmp_path: Path) -> None:
    grid = Grid("synthetic:5x7", "lfw.bin", tmp_path, seeds=2, options={"epochs": 33, "head_options": {"margin": 0.4}})
    jobs = grid.jobs()
    assert [str(job) for job in jobs] == [f"{head} seed {seed}" for seed in (0, 1) for head in HEADS]
    assert {job.config.epochs for job in jobs} == {33} and jobs[5].config.head == "arcface"
    assert jobs[5].config.seed == 1 and jobs[9].folder == tmp_path / "recurricularface-seed1"
    assert jobs[0].config.head_options["margin"] == 0.4


def test_the_command_line_of_a_grid_plans_the_same_grid(tmp_path: Path) -> None:
    options = {"epochs": 5, "head_options": {"margin": 0.3}, "freeze": ["body.conv1"]}
    grid = Grid("a b/", "lfw.bin", tmp_path, ("arcface", "cosface"), 2, "quick-cpu", options)
    parser = Parser()
    command.add_arguments(parser)
    args = parser.parse(shlex.split(grid.command)[2:])
    assert args.set == ["epochs=5", "head_options.margin=0.3", "freeze=['body.conv1']"]
    again = Grid(
        *(args.data, args.benchmarks, Path(args.output), tuple(args.heads), args.seeds, args.recipe),
        dict(assignment.split("=", 1) for assignment in args.set),
    )
    assert [job.config for job in again.jobs()] == [job.config for job in grid.jobs()]
    assert "--heads" not in replace(grid, heads=HEADS).command


@pytest.mark.parametrize("name", ["head", "seed", "data"])
def test_an_option_with_a_flag_of_its_own_is_not_one_for_all_cells(name: str) -> None:
    with pytest.raises(InputError, match=f"in place of --set {name}"):
        Grid("synthetic", "lfw.bin", options={name: 1})


def test_a_python_call_runs_a_grid_and_goes_on_with_what_an_earlier_version_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = grid_in(prepare(tmp_path, pairs=6))
    steps: list[int] = []
    with caplog.at_level("INFO", logger="zoo"):
        done = reproduce(grid, lambda standing: steps.append(standing.step))
    assert steps[-1] == 7 and "[1/1] arcface, seed 0: evaluating" in caplog.text
    (cell,) = done.cells
    assert (cell.head, cell.seed, cell.report.results[0].pairs) == ("arcface", 0, 6)
    assert load_config(tmp_path / "out/arcface-seed0/config.yaml").epochs == 1
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    del plan["options"]["skip_nonfinite"]  # an option that did not exist
    plan["training set"] = "35 pictures of 5 people"  # worded otherwise
    (tmp_path / "out/plan.json").write_text(json.dumps(plan))
    assert [cell.report.to_json() for cell in reproduce(grid).cells] == [cell.report.to_json()]
    with pytest.raises(InputError, match="found other values for lr;"):
        reproduce(grid_in(tmp_path, lr=0.06))
    plan["training set"] = "36 pictures of 5 people"
    (tmp_path / "out/plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match="found other values for training set;"):
        reproduce(grid)


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="found torchrun"):
        reproduce(Grid("synthetic", "lfw.bin"))


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Two heads and one seed; the first cell has a log."""
    grid = Grid("faces/", "made.bin", tmp_path, ("arcface", "cosface"), 1, "quick-cpu")
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "arcface-seed0").mkdir()
    log = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 7.25}, {"step": 2, "accuracy": 0.5}]
    (tmp_path / "arcface-seed0/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return grid


def noted(cell: Cell) -> Cell:
    """The cell with a note on its model and two figures that its pairs cannot measure."""
    (found,) = cell.report.results
    found = replace(found, notes=("the copy is partial",), not_measurable=("TAR@FAR 0.001 is not measurable",))
    model = replace(cell.report.model, notes=("computed on the CPU",))
    return replace(cell, report=replace(cell.report, model=model, results=(found,)))


def test_the_page_of_an_unfinished_grid_names_what_is_missing(grid: Grid) -> None:
    cells = [noted(made_up("arcface", 0, first_right(7, 10)))]
    write_page(grid, grid.jobs(), cells, {"training set": "9 images of 3 people"}, {})
    page = (grid.output / "reproduction.md").read_text()
    assert page.startswith(f"# arcface, cosface\n\n`{grid.command}`\n\nTrained on 9 images of 3 people: ")
    assert "recipe quick-cpu. Mean ± sample standard deviation" in page and "quoted" not in page
    assert "Not finished, and in no figure below: cosface seed 0.\n" in page
    assert "| made.bin | accuracy | 70.00 |" in page and "![ROC](roc.svg)" in page
    assert "arcface seed 0 7.250.\n" in page
    record = json.loads((grid.output / "reproduction.json").read_text())
    assert record["missing"] == ["cosface seed 0"] and record["training_loss"] == {"arcface seed 0": 7.25}
    assert {"command", "options", "provenance", "cells", "figures", "gains"} < set(record)


def test_a_note_of_several_cells_stands_once(grid: Grid) -> None:
    cells = [noted(made_up("arcface", seed, first_right(7, 10))) for seed in (0, 0)]
    write_page(grid, [grid.jobs()[0]] * 2, cells, {"training set": "x"}, {})
    lines = (grid.output / "reproduction.md").read_text().splitlines()
    assert lines[-3:] == ["- the copy is partial", "- computed on the CPU", "- TAR@FAR 0.001 is not measurable"]


def test_published_figures_that_are_not_measured_are_listed(grid: Grid) -> None:
    cells = [made_up("arcface", 0, first_right(7, 10))]
    found = notes(replace(grid, stated="paper.csv"), cells, {("lfw", "auc", "arcface"): 0.9})
    assert found == ["paper.csv: not measured here are lfw"]


def test_the_last_loss_is_that_of_the_last_line_that_has_one(grid: Grid) -> None:
    assert last_loss(grid.output / "arcface-seed0") == 7.25
