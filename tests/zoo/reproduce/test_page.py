"""The pages of a grid say what was trained, what is missing, and what a reader should know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reproducing import first_right, made_up
from zoo.reproduce.grid import Grid
from zoo.reproduce.page import last_loss, notes, write_page
from zoo.reproduce.tables import Cell


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
