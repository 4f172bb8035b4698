"""The page of several cells, and cells gathered from several folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reproducing import HEADS, cell_of, first_right, made_up
from zoo.errors import InputError
from zoo.evaluate.results import Evaluation
from zoo.reproduce.page import Page, environment, gather, read_cell
from zoo.reproduce.tables import Cell, gains
from zoo.train.config import build, save_config


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path, "zoo reproduce --data faces/", "Trained on 9 images of 3 people.", "none")


def noted(cell: Cell) -> Cell:
    """The cell with a note on its model and two figures that its pairs cannot measure."""
    (found,) = cell.report.results
    found = replace(found, notes=("the copy is partial",), not_measurable=("TAR@FAR 0.001 is not measurable",))
    model = replace(cell.report.model, notes=("computed on the CPU",))
    return replace(cell, report=replace(cell.report, model=model, results=(found,)), loss=7.25)


def test_the_page_of_an_unfinished_grid_names_what_is_missing(page: Page) -> None:
    page.write([noted(made_up("arcface", 0, first_right(7, 10)))], "cosface", ["cosface seed 0"])
    told = (page.output / "reproduction.md").read_text()
    assert told.startswith(f"# arcface\n\n`{page.command}`\n\nTrained on 9 images of 3 people. Mean ± sample")
    assert "quoted" not in told and "Not finished, and in no figure below: cosface seed 0.\n" in told
    assert "| made.bin | accuracy | 70.00 |" in told and "![ROC](roc.svg)" in told
    assert "arcface seed 0 7.250.\n" in told
    record = json.loads((page.output / "reproduction.json").read_text())
    assert record["missing"] == ["cosface seed 0"] and record["training_loss"] == {"arcface seed 0": 7.25}
    assert {"command", "environment", "provenance", "cells", "figures", "gains"} < set(record)


def test_a_note_of_several_cells_stands_once(page: Page) -> None:
    page.write([noted(made_up("arcface", seed, first_right(7, 10))) for seed in (0, 0)], "arcface")
    lines = (page.output / "reproduction.md").read_text().splitlines()
    assert lines[-3:] == ["- the copy is partial", "- computed on the CPU", "- TAR@FAR 0.001 is not measurable"]


def test_published_figures_that_are_not_measured_are_listed(page: Page) -> None:
    stated = page.output / "paper.csv"
    stated.write_text("benchmark,figure,head,percent\nlfw,AUC,arcface,90\n")
    found = replace(page, stated=str(stated)).notes([made_up("arcface", 0, first_right(7, 10))])
    assert found == [f"{stated}: not measured here are lfw"]


def test_options_that_differ_between_columns_are_named() -> None:
    one = build({"data": "faces/", "head": "arcface", "epochs": 9})
    assert environment([one, replace(one, head="cosface", seed=1)], "faces").endswith("learning rate 0.1.")
    told = environment([one, replace(one, batch_size=64)], "faces")
    assert told.endswith("learning rate 0.1; not the same in all columns: batch_size.")


def put(folder: Path, cell: Cell) -> None:
    """The cell as a run folder that was trained and evaluated."""
    folder.mkdir(parents=True)
    save_config(build({"data": "faces/", "head": cell.head.split("+")[0], "epochs": 2}), folder / "config.yaml")
    log = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 7.25}, {"step": 2, "accuracy": 0.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    cell.report.save(folder / "report.json")


def test_the_last_loss_is_that_of_the_last_line_that_has_one(tmp_path: Path) -> None:
    put(tmp_path / "cell", made_up("arcface", 0, first_right(7, 10)))
    assert read_cell(tmp_path / "cell", "arcface", 0).loss == 7.25


def test_cells_of_two_machines_give_the_tables_of_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = [
        made_up(head, seed, first_right(700 + 90 * (head != "arcface") + seed)) for seed in (0, 1) for head in HEADS
    ]
    for cell in cells:
        put(tmp_path / f"machine{cell.seed}/{cell.head}-seed{cell.seed}", cell)
    put(tmp_path / "machine1/arcface-seed0", made_up("arcface", 0, first_right(1)))
    found = gather([tmp_path / "machine0", tmp_path / "machine1"], tmp_path / "out", stated="none", difference=0.02)
    assert [(cell.head, cell.seed) for cell in found] == [(head, seed) for head in HEADS for seed in (0, 1)]
    assert "machine1/arcface-seed0 is left out" in caplog.text
    (mine,), (theirs,) = gains(found, HEADS[1]), gains(cells, HEADS[1])
    assert mine.seeds == theirs.seeds and mine.interval == pytest.approx(theirs.interval, abs=1e-6)
    told = (tmp_path / "out/reproduction.md").read_text()
    assert "arcface (2 seeds) | recurricularface (2 seeds)" in told and "zoo reproduce --gather" in told
    assert "--stated none --difference 2 -o" in told
    with pytest.raises(InputError, match=r"expected finished cells of cosface in .*, found arcface, recurricularface"):
        gather([tmp_path / "machine0"], tmp_path / "none", ["cosface"])
    assert not (tmp_path / "none").exists()


def test_a_benchmark_that_differs_between_machines_is_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        found = Evaluation("pairs", "made.bin", f"hash {seed}", None, pairs=4, accuracy=0.5)
        put(tmp_path / f"arcface-seed{seed}", cell_of("arcface", seed, found))
    with pytest.raises(InputError, match=r"expected one made\.bin for all cells, found two"):
        gather([tmp_path], tmp_path / "out")


def test_a_folder_without_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected finished cells of any head in .*, found none"):
        gather([tmp_path], tmp_path / "out")
