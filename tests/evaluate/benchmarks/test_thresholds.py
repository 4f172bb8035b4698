"""Thresholds are stored with what they hold for, or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.benchmarks import (
    colour_pairs,
    model,
    own_cache,
    run,
)
from zoo.evaluate.benchmarks.runner import measured_thresholds, with_thresholds
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png
from zoo.inference.embed import embed
from zoo.inference.metadata import model_sha256, read_model_info
from zoo.modelinfo import InputSpec, ModelInfo

__all__ = ["model", "own_cache"]


def test_thresholds_of_another_model_are_dropped() -> None:
    images, same = colour_pairs(900)
    protocol = PairsProtocol(images[:, :2, :2], same)
    figures = protocol.score(embed(lambda c: c.mean(axis=(1, 2)).astype(np.float32) - 127, protocol.images()))
    models = [SimpleNamespace(model_sha256=name, precision="float32", input=InputSpec()) for name in ("mine", "theirs")]
    (mine, _), (theirs, _) = (measured_thresholds(figures, model, flip=True) for model in models)
    info = with_thresholds(with_thresholds(ModelInfo(3), theirs), mine)
    assert {threshold.model_sha256 for threshold in info.thresholds} == {"mine"}


def test_thresholds_with_enough_false_accepts_are_stored_with_what_they_hold_for(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, same = colour_pairs(900)
    write_bin(tmp_path / "many.bin", [encode_png(image[:9, :9]) for image in images], same)
    before = model_sha256(model)
    arguments = ["evaluate", model, "--data", tmp_path / "many.bin", "--device", "cpu", "--write-thresholds"]
    status, out, _ = run(capsys, *arguments, "--no-flip")
    assert status == 0 and "stored the threshold" in out
    assert "no threshold for FAR 0.01: 4 false accepts support it, 30 are needed" in out
    info = read_model_info(model)
    assert info is not None and [threshold.far for threshold in info.thresholds] == [0.1]
    stored = info.thresholds[0]
    assert stored.model_sha256 == before == model_sha256(model)
    assert (stored.negatives, stored.false_accepts, stored.flip, stored.data) == (450, 45, False, "many.bin")
    assert stored.far_interval[0] < 0.1 < stored.far_interval[1]
    run(capsys, *arguments)
    again = read_model_info(model)
    assert again is not None and len(again.thresholds) == 1 and again.thresholds[0].flip
