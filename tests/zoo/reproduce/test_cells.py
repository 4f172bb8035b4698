"""Cells of a grid within a time, and several at once."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.reproducing import HEADS, grid_in, prepare
from tests.support.training import start, weights
from zoo.errors import InputError
from zoo.reproduce.grid import Pace, reproduce, stopping_at
from zoo.train import checkpoint
from zoo.train.config import TrainConfig
from zoo.train.loop import train
from zoo.train.start import Interrupted, unwatched


def whole(config: TrainConfig, folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a training that nothing stops."""
    train(config, start(config, folder))
    return weights(folder)


class Exporting(Exception):
    """Raised where a cell whose training is finished would be exported."""


def test_cells_whose_time_is_over_are_finished_by_the_next_call_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: object, **__: object) -> None:
        raise Exporting

    grid = grid_in(prepare(tmp_path, pairs=6))
    assert reproduce(grid, pace=Pace(minutes=0)) == ()
    folder = grid.output / "arcface-seed0"
    assert not folder.exists()
    assert reproduce(grid, pace=Pace(cell_minutes=0)) == ()
    saved = max(path.name for path in checkpoint.steps(folder / "checkpoint"))
    assert "step-00000000" < saved < "step-00000007"
    monkeypatch.setattr("zoo.reproduce.grid.export_onnx", export)
    with pytest.raises(Exporting):
        reproduce(grid)
    mine, theirs = weights(folder), whole(grid.config("arcface", 0), tmp_path / "whole")
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_a_time_that_is_no_time_is_refused() -> None:
    for pace in ({"minutes": math.nan}, {"cell_minutes": -1.0}):
        with pytest.raises(InputError, match=r"at least 0, found (nan|-1\.0)"):
            Pace(**pace)


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
    with pytest.raises(Interrupted) as stopped:
        reproduce(grid, pace=Pace(2))
    stopper.join()
    assert stopped.value.exit_code == 143
    assert [str(cell) for cell in reproduce(grid, pace=Pace(2))] == ["arcface seed 0", "recurricularface seed 0"]
    mine = weights(grid.output / "recurricularface-seed0")
    theirs = whole(grid.config("recurricularface", 0), tmp_path / "whole")
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in theirs)
