"""benchmarks/evidence.py: its trainings are those of `zoo train`, and its rates over all pairs are exact."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.support.places import ROOT
from tests.support.training import start, tiny, weights
from zoo.data.open import open_dataset
from zoo.evaluate.intervals import Replicates, Resampling
from zoo.train.build import build
from zoo.train.loop import train


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "benchmarks/evidence.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evidence", module)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def test_a_cell_ends_with_the_weights_of_zoo_train(evidence: ModuleType, tmp_path: Path) -> None:
    config = tiny(centres={"chunk_size": None}, seed=3)
    train(config, start(config, tmp_path / "run"))
    dataset = open_dataset(config.data)
    faces = evidence.Faces()
    faces.name, faces.labels = "synthetic", dataset.labels
    crops = torch.from_numpy(np.stack([dataset.image(i) for i in range(len(dataset))]))
    torch.manual_seed(config.seed)
    training = build(config, faces.num_classes, torch.device("cpu"))
    epochs = list(evidence.steps_of(config, faces, crops, training, time.time() + 600))
    assert [epoch["step"] for epoch in epochs] == [7, 14, 21]
    mine, theirs = training.model.state_dict(), weights(tmp_path / "run")
    assert theirs.keys() <= mine.keys()
    assert all(mine[name].numpy().tobytes() == theirs[name].tobytes() for name in theirs)
    assert len(list(evidence.steps_of(config, faces, crops, training, 0))) == 1, "its time is over"


def test_rates_in_each_draw_of_people_are_those_of_zoo_evaluate(
    evidence: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FARS", (0.1, 0.02))
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(14), 3)
    rows = rng.normal(size=(14, 8))[person] + 0.8 * rng.normal(size=(42, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    one, other = np.triu_indices(42, 1)
    cosines, same = (rows @ rows.T)[one, other], person[one] == person[other]
    found = evidence.verification(cosines, same, person[one], person[other], 14)
    expected = Replicates.of(cosines, same, person[one], person[other], Resampling.of(14, len(same)))
    for far in (0.1, 0.02):
        drawn = found["curves"].estimates[f"TAR@FAR {far:g}"]
        accepted = np.sort(cosines[~same])[::-1][int(far * found["negatives"])]
        assert drawn.value == found["tar_at_far"][far] == np.mean(cosines[same] > accepted)
        np.testing.assert_allclose(drawn.replicates, expected.tar(far))
