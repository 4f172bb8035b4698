"""What mends a run is written down once, with the step; all else is not."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.training import start, tiny
from zoo.train.config import load_config
from zoo.train.history import note_changes


def test_each_change_is_a_line_and_what_holds_stands_in_the_options(tmp_path: Path) -> None:
    run = start(tiny(), tmp_path / "run")
    note_changes(run, tiny(log_every=7), 3)
    assert not (run / "history.jsonl").exists()
    note_changes(run, tiny(lr=0.5, log_every=7), 3)
    note_changes(run, tiny(lr=0.25, skip_nonfinite=2), 9)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["changed"]) for line in lines] == [
        (3, {"lr": [0.05, 0.5]}),
        (9, {"lr": [0.5, 0.25], "skip_nonfinite": [0, 2]}),
    ]
    assert load_config(run / "config.yaml") == tiny(lr=0.25, skip_nonfinite=2)
