"""The proof of an export: its figures by their plain definition, its tolerance, its sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.exporting import (
    DIM,
    Tiny,
    trained_a_little,
)
from zoo.data.synthetic import SyntheticFaces
from zoo.errors import InputError
from zoo.export import parity
from zoo.export.onnx import write_onnx
from zoo.export.parity import Compared, Differences
from zoo.modelinfo import ModelInfo


def test_parity_is_measured_at_every_batch_with_and_without_graph_optimisation(
    tmp_path: Path,
) -> None:
    record = write_onnx(trained_a_little(Tiny()), tmp_path / "model.onnx", ModelInfo(DIM)).parity
    assert set(record) == {str(batch) for batch in parity.BATCHES}
    for figures in record.values():
        assert set(figures["unoptimised"]) | {"unoptimised"} == set(figures)
        assert min(figures["cosine"], figures["unoptimised"]["cosine"]) >= parity.MIN_COSINE


def test_differences_equal_the_plain_definition() -> None:
    rng = np.random.default_rng(0)
    ours = rng.standard_normal((3, 7)).astype(np.float32)
    theirs = ours + np.float32(0.01) * rng.standard_normal((3, 7)).astype(np.float32)
    found = parity.differences(ours, theirs)
    cosines = [
        float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(ours.astype(float), theirs.astype(float), strict=True)
    ]
    assert found.cosine == pytest.approx(min(cosines), abs=1e-12)
    assert found.max_abs == pytest.approx(np.abs(ours.astype(float) - theirs).max(), abs=1e-12)
    assert parity.differences(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32)).cosine == 1
    assert parity.differences(ours, np.zeros_like(ours)).cosine == 0


def test_figures_are_rounded_to_the_unfavourable_side() -> None:
    found = Differences(cosine=0.9999999, max_abs=1.2e-7, max_relative=3.01e-4).rounded()
    assert found == Differences(cosine=0.999999, max_abs=2e-07, max_relative=4e-4)
    assert Differences(1.0, 0.0, 0.0).rounded() == Differences(1.0, 0.0, 0.0)
    assert np.isnan(Differences(np.nan, np.nan, np.inf).rounded().cosine)


def test_a_proof_fails_out_of_tolerance_on_either_side_and_at_not_a_number() -> None:
    ours = np.ones((1, 3), np.float32)
    good, bad = (parity.differences(ours, theirs).rounded() for theirs in (ours, ours * np.float32(np.nan)))
    assert Compared(1, good, good).within
    for optimised, unoptimised in ((bad, bad), (good, bad), (bad, good)):
        assert not Compared(2, optimised, unoptimised).within
    for unoptimised, blamed in ((bad, "the exporter is wrong"), (good, "graph optimisation changes")):
        assert blamed in str(parity.parity_error(Compared(2, bad, unoptimised), "model.onnx"))


def test_parity_crops_are_faces_of_nobody_in_training() -> None:
    crops = parity.crops_for_parity((112, 112), 5)
    assert crops.shape == (5, 112, 112, 3)
    assert np.array_equal(crops[4], SyntheticFaces(2, 3, seed=0, split="test").image(4))


def test_a_graph_that_only_optimisation_makes_wrong_is_told_so() -> None:
    failed = Compared(33, Differences(cosine=0.5, max_abs=1.0, max_relative=0.3), Differences(1.0, 0.0, 0.0))
    said = str(parity.parity_error(failed, "model.onnx"))
    assert "on a batch of 33 crops" in said and "graph optimisation changes what it computes" in said


def test_a_model_whose_own_rounding_is_as_large_is_to_blame_and_not_the_file() -> None:
    failed = Compared(2, *[Differences(0.99, 0.1, 2e-2)] * 2)
    told = str(parity.parity_error(failed, "model.onnx", Differences(0.999, 0.1, 4e-3)))
    assert "the model is ill-conditioned, as torch's own float32 has a cosine of 0.999000" in told
    for less in (Differences(0.999, 0.1, 1.5e-3), Differences(1.0, 1e-6, 1e-6), None):
        assert "try another --opset" in str(parity.parity_error(failed, "model.onnx", less))


def test_the_record_in_the_metadata_has_both_sides_of_every_batch() -> None:
    optimised, plain = Differences(0.5, 1.0, 0.3), Differences(0.25, 2.0, 0.6)
    assert parity.as_record([Compared(33, optimised, plain)]) == {
        "33": {
            **{"cosine": 0.5, "max_abs": 1.0, "max_relative": 0.3},
            "unoptimised": {"cosine": 0.25, "max_abs": 2.0, "max_relative": 0.6},
        }
    }


def test_too_few_crops_prove_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 5 crops for the proof of an export, found 2"):
        parity.measure(lambda batch: batch, tmp_path / "model.onnx", np.zeros((2, 3, 8, 8), np.float32), (1, 5))
