"""Smaller files: float16 and int8 keep in float32 what they must, say so, and are compared with the float32 file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.cli import main
from zoo.data.synthetic import synthetic_pairs
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.results import Evaluation
from zoo.export import artifacts
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png


def evaluated(seed: int, shift: float, pairs: int = 600) -> Evaluation:
    """A made-up model's evaluation: noisy cosines, lower between pictures of one person by `shift`."""
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    cosines = np.clip(rng.normal(np.where(same, 0.5 - shift, 0.1), 0.15), -1, 1)
    angles = np.stack([np.zeros(pairs), np.arccos(cosines)], axis=1).reshape(-1)
    images = np.arange(2 * pairs, dtype=np.uint8)
    protocol = PairsProtocol([f"{i}".encode() for i in range(len(images))], same, data="made.bin")
    return protocol.score(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_the_interval_of_a_change_holds_it_and_is_nothing_for_the_same_model() -> None:
    reference, worse = evaluated(0, 0.0), evaluated(1, 0.1)
    for change in artifacts.changes(reference, worse):
        assert change.low <= change.value <= change.high
        assert change.low < change.high
    assert artifacts.changes(reference, worse)[0].value < 0
    for change in artifacts.changes(reference, reference):
        assert (change.value, change.low, change.high) == (0, 0, 0)


def test_a_change_that_the_pairs_cannot_measure_is_not_a_number() -> None:
    accuracy, tar = artifacts.changes(evaluated(0, 0.0, pairs=60), evaluated(1, 0.1, pairs=60))
    assert np.isfinite(accuracy.value) and np.isnan([tar.value, tar.low, tar.high]).all()


def test_export_and_evaluate_say_the_same_of_the_same_pairs(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    images, same = synthetic_pairs(400, seed=3)
    write_bin(tmp_path / "pairs.bin", [encode_png(image) for image in images], same)
    data = ["--data", str(tmp_path / "pairs.bin")]
    assert main(["export", str(model_folder), "--onnx", "--int8", *data]) == 0
    exported = capsys.readouterr().out
    _, int8 = json.loads((model_folder / "export.json").read_text())["variants"]
    files = [str(model_folder / name) for name in ("model.onnx", "model.int8.onnx")]
    assert main(["evaluate", *files, *data, "--device", "cpu"]) == 0
    evaluated = capsys.readouterr().out
    assert f"{int8['accuracy']:.6f} ±" in evaluated
    for key, label in (("accuracy_change", "accuracy"), ("tar_change", "TAR@FAR 0.01")):
        change = int8[key]
        assert key == "tar_change" or change["low"] < change["high"], "models that never differ prove nothing"
        told = f"{label}: {change['value']:+.6f} [{change['low']:+.6f}, {change['high']:+.6f}]"
        assert told in evaluated
        assert all(f"{bound:+.4f}" in exported for bound in change.values())
