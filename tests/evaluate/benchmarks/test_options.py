"""The options of an evaluation: the command's flags, and values that do not fit."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.benchmarks import bench, model, own_cache
from zoo.errors import InputError
from zoo.evaluate import Options, evaluate, evaluate_all
from zoo.evaluate.report.record import Settings

__all__ = ["bench", "model", "own_cache"]


def test_a_report_holds_the_options_that_decide_the_figures(bench: Path, model: Path) -> None:
    assert evaluate_all(model, bench).options == Settings()
    chosen = {"flip": False, "compat": "insightface", "batch_size": 3, "features": "N0D1"}
    assert evaluate_all(model, bench, **chosen).options == Settings(**chosen)
    assert Options(device="cuda:0,cuda:1").devices == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"features": "N2D1"}, "found 'N2D1'"),
        ({"compat": "facenet"}, "found 'facenet'"),
        ({"workers": -1}, "expected 0 or more for --workers, found -1"),
        ({"batch_size": 0, "backend": "torch"}, "expected 1 or more for --batch-size, found 0"),
        ({"threads": 0, "backend": "torch"}, "expected 1 or more for --threads, found 0"),
        ({"pairs": 0}, "expected 1 or more for --pairs, found 0"),
        ({"mean": float("inf")}, "expected a finite number for --mean"),
        ({"backend": "jax"}, "expected the backend onnx or torch, found 'jax'"),
        ({"backend": "torch", "write_thresholds": True}, "expected an ONNX model for --write-thresholds"),
        ({"backend": "torch", "precision": "float16"}, "expected one device and float32 for --backend torch"),
        ({"backend": "torch", "device": "cpu,cpu"}, "expected one device and float32 for --backend torch"),
        ({"device": "cpu,cuda:1"}, "expected several devices of one kind"),
        ({"detector": "yunet"}, "expected a list of pairs over photos"),
        ({"pairs": 3}, "expected a folder of people for --pairs"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, object], sentence: str, bench: Path, model: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        evaluate(model, bench, **options)


def test_every_option_is_one_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.cli import main

    with contextlib.suppress(SystemExit):
        main(["evaluate", "--help"])
    told = capsys.readouterr().out
    assert all(f"--{field.name.replace('_', '-')}" in told for field in fields(Options))
    with pytest.raises(TypeError, match="flop"):
        evaluate("m.onnx", flop=True)


@pytest.mark.parametrize("name", ["pairs", "detector"])
def test_options_of_photos_are_refused_for_synthetic_faces(model: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"for --{name}, found synthetic; leave it out"):
        evaluate_all(model, "synthetic", **{name: 3})
