"""The page of a run's curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.training import start, tiny
from zoo.train.curves import page, write_curves


def test_the_page_shows_the_validation_and_leaves_out_what_was_not_measured() -> None:
    records: list[dict[str, Any]] = [
        {"step": 2, "epoch": 1, "loss": None, "lr": 0.5},
        {"step": 2, "epoch": 1, "validation": {"accuracy": 0.75, "auc": 0.8}},
        {"step": 4, "epoch": 2, "loss": 3.0, "lr": 0.25},
        {"step": 4, "epoch": 2, "validation": {"accuracy": 0.5, "auc": 0.9}},
    ]
    text = page("<i>run</i>", {"backbone": "resnet18", "head": "arcface", "data": "a & b", "epochs": 2}, records)
    assert "Best validation: accuracy 0.5000, AUC 0.9000 after step 4 (epoch 2)" in text
    assert text.count("<svg") == 3 and "&lt;i&gt;run" in text and "a &amp; b" in text
    assert "<svg" not in page("new", {}, [])


def test_a_page_is_drawn_of_any_run(tmp_path: Path) -> None:
    run = start(tiny(), tmp_path / "run")
    (run / "metrics.jsonl").write_text("")
    write_curves(run)
    assert "<h1>run</h1>" in (run / "curves.html").read_text()
