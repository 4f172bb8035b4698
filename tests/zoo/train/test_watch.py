"""Where a run stands, as a person reads it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zoo.train.watch import Standing, facts, heartbeat, unwatched


def test_the_figures_of_a_line_are_those_that_it_has() -> None:
    record = {"step": 3, "loss": 1.25, "images_per_second": 99.6, "t": 0.5, "mean_target_cosine": 0.25, "skipped": 2}
    assert facts(record) == [
        "100 images/s",
        "loss 1.250",
        "t 0.500",
        "target cosine 0.250",
        "2 damaged images skipped",
    ]
    assert facts({"loss": 1.0, "images_per_second": 5.0, "skipped": 0}) == ["5 images/s", "loss 1.000"]
    assert facts({}) == []


def test_watching_costs_nothing_to_whoever_does_not() -> None:
    assert unwatched(Standing(1, 2, 1, 1, {})) is None
    code = "import sys, zoo.train, zoo.train.watch; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_heartbeat_comes_once_in_so_many_seconds_and_tells_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "zoo")
    now = [0.0]
    watch = heartbeat(60, lambda: now[0])
    for step in range(101, 111):  # a resumed run, a step in half a minute
        now[0] += 30
        watch(Standing(step, 230, 2, 3, {"loss": 0.5, "images_per_second": 70.0}))
    assert len(caplog.messages) == 5
    assert caplog.messages[-1] == "epoch 2/3  step 110 of 230  1.0 h left  70 images/s  loss 0.500"
