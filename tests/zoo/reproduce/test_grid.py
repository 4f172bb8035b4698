"""A grid as a Python call: its plan, its command line, and what an earlier version of it left on disk."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reproducing import grid_in, prepare
from zoo.cli import Parser
from zoo.commands import reproduce as command
from zoo.errors import InputError
from zoo.reproduce.grid import HEADS, Grid, cell_name, reproduce, variant
from zoo.train.config import load_config


def test_all_heads_of_a_seed_come_before_the_next_seed(tmp_path: Path) -> None:
    grid = Grid("synthetic:5x7", "lfw.bin", tmp_path, seeds=2, options={"epochs": 33, "head_options": {"margin": 0.4}})
    jobs = grid.jobs()
    assert [str(job) for job in jobs] == [f"{head} seed {seed}" for seed in (0, 1) for head in HEADS]
    assert {job.config.epochs for job in jobs} == {33} and jobs[5].config.head == "arcface"
    assert jobs[5].config.seed == 1 and jobs[9].folder == tmp_path / "recurricularface-seed1"
    assert jobs[0].config.head_options["margin"] == 0.4


def test_the_command_line_of_a_grid_plans_the_same_grid(tmp_path: Path) -> None:
    options = {"epochs": 5, "head_options": {"margin": 0.3}, "freeze": ["body.conv1"]}
    grid = Grid("a b/", "lfw.bin", tmp_path, ("arcface", "cosface"), 2, "quick-cpu", options, difference=0.005)
    parser = Parser()
    command.add_arguments(parser)
    args = parser.parse(shlex.split(grid.command)[2:])
    assert args.difference / 100 == grid.difference and "--difference" not in replace(grid, difference=0.01).command
    assert args.set == ["epochs=5", "head_options.margin=0.3", "freeze=['body.conv1']"]
    again = Grid(
        *(args.data, args.benchmarks, Path(args.output), tuple(args.heads), args.seeds, args.recipe),
        dict(assignment.split("=", 1) for assignment in args.set),
    )
    assert [job.config for job in again.jobs()] == [job.config for job in grid.jobs()]
    assert "--heads" not in replace(grid, heads=HEADS).command


def test_a_column_has_options_and_a_recipe_of_its_own(tmp_path: Path) -> None:
    columns = ("recurricularface+modulate=all+lr=0.2", "arcface+recipe=quick-cpu", "arcface")
    jobs = Grid("faces/", "lfw.bin", tmp_path, columns, 1, options={"epochs": 33}).jobs()
    assert [(job.config.head, job.config.lr, job.config.batch_size) for job in jobs] == [
        *(("recurricularface", 0.2, 512), ("arcface", 0.05, 32), ("arcface", 0.1, 512))
    ]
    assert jobs[0].config.head_options == {"modulate": "all"} and not jobs[2].config.head_options
    assert jobs[0].folder == tmp_path / "recurricularface+modulate=all+lr=0.2-seed0"
    with pytest.raises(InputError, match="with a recipe of the paper's environment, found circle"):
        Grid("faces/", "lfw.bin", tmp_path, ("circle+margin=0.2",))


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
    assert steps[-1] == 7 and "arcface seed 0: evaluating" in caplog.text
    (cell,) = done
    assert (cell.head, cell.seed, cell.report.results[0].pairs) == ("arcface", 0, 6)
    assert cell.report.results[0].fold_order == "stratified, seed 0"
    assert load_config(tmp_path / "out/arcface-seed0/config.yaml").epochs == 1
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    del plan["options"]["skip_nonfinite"]  # an option that did not exist
    plan["training set"] = "35 pictures of 5 people"  # worded otherwise
    (tmp_path / "out/plan.json").write_text(json.dumps(plan))
    assert [cell.report.to_json() for cell in reproduce(grid)] == [cell.report.to_json()]
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


def test_a_plus_within_a_number_begins_no_option() -> None:
    assert variant("arcface+lr=1e+2") == ("arcface", {"lr": "1e+2"})


@pytest.mark.parametrize("column", ["arcface+margin", "arcface+margin=", "arcface+seed=3", "arcface+head=cosface"])
def test_a_column_that_says_nothing_or_what_other_options_say_is_refused(column: str) -> None:
    with pytest.raises(InputError, match="expected --heads as HEAD or HEAD\\+option=value, found arcface"):
        variant(column)


def test_a_path_in_a_column_makes_no_folder_of_its_own() -> None:
    assert cell_name("arcface+data=faces/small", 3) == "arcface+data=faces-small-seed3"
