"""Cells of a grid within a time, and several at once."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from tests.support.reproducing import HEADS, grid_in, prepare
from tests.support.training import weights
from zoo.reproduce.cells import Pace, stopping_at
from zoo.reproduce.grid import reproduce
from zoo.reproduce.tables import Cell
from zoo.train import checkpoint
from zoo.train.signals import Interrupted
from zoo.train.watch import unwatched


def figures_of(cell: Cell) -> object:
    return [result.to_json() for result in cell.report.results]


def test_cells_whose_time_is_over_are_finished_by_the_next_call_as_if_nothing_had_happened(tmp_path: Path) -> None:
    grid = grid_in(prepare(tmp_path, pairs=6))
    assert reproduce(grid, pace=Pace(minutes=0)).cells == ()
    assert not (tmp_path / "out/arcface-seed0").exists()
    assert reproduce(grid, pace=Pace(cell_minutes=0)).cells == ()
    saved = max(path.name for path in checkpoint.steps(tmp_path / "out/arcface-seed0/checkpoint"))
    assert "step-00000000" < saved < "step-00000007"
    (cell,) = reproduce(grid).cells
    (whole,) = reproduce(replace(grid, output=tmp_path / "whole")).cells
    mine, theirs = (weights(tmp_path / name / "arcface-seed0") for name in ("out", "whole"))
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in theirs)
    assert figures_of(cell) == figures_of(whole)


def test_a_training_without_a_time_is_watched_by_nobody_else() -> None:
    assert stopping_at(math.inf, unwatched) is unwatched


def test_several_cells_at_once_are_stopped_by_a_signal_and_end_as_one_after_another(tmp_path: Path) -> None:
    grid = grid_in(prepare(tmp_path, pairs=6), HEADS)

    def stop() -> None:
        while not any(grid.output.glob("*/checkpoint/step-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        reproduce(grid, pace=Pace(2))
        raise AssertionError("nothing was stopped")
    except Interrupted as stopped:
        assert stopped.exit_code == 143
    stopper.join()
    at_once = reproduce(grid, pace=Pace(2)).cells
    (alone,) = reproduce(replace(grid, output=tmp_path / "alone", heads=HEADS[1:])).cells
    assert [str(cell) for cell in at_once] == ["arcface seed 0", "recurricularface seed 0"]
    assert figures_of(at_once[1]) == figures_of(alone)
