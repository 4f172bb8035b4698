"""What a run is measured on while it trains, and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.benchmarks import ijb, write_pairs
from tests.support.training import start, tiny
from zoo.backbones import load_timm
from zoo.backbones.timm_folder import TorchEmbedder
from zoo.errors import InputError
from zoo.evaluate.protocols import IJBProtocol
from zoo.inference.embed import embed
from zoo.messages import no_progress
from zoo.modelinfo import InputSpec
from zoo.train.loop import train
from zoo.train.validate import measured, open_validation

__all__ = ["ijb"]


def test_validation_is_synthetic_for_synthetic_data_and_nothing_for_others(tmp_path: Path) -> None:
    (found,) = open_validation(tiny(validation="auto"))
    assert found.data == "synthetic validation"
    assert open_validation(tiny(validation="auto", data="faces")) == open_validation(tiny(validation="none")) == []
    with pytest.raises(InputError, match=r"pairs\.bin"):
        open_validation(tiny(validation=str(tmp_path / "pairs.bin")))


def validations(run: Path) -> dict[int, dict[str, float]]:
    """The validations in a run's log, by step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["validation"] for line in lines if "validation" in line}


def test_a_run_is_validated_every_so_many_steps_and_at_its_end(tmp_path: Path) -> None:
    """7 steps an epoch; the checkpoint comes first, and a run that is resumed there repeats the validation."""
    pairs = write_pairs(tmp_path / "pairs.bin", pairs=20)
    config = tiny(epochs=2, validation=str(pairs), validate_every=4, keep=9)
    record = train(config, start(config, tmp_path / "run"))
    found = validations(tmp_path / "run")
    assert list(found) == [4, 8, 12, 14] and record["validation"] == found[14]
    kept = [int(step.name[-2:]) for step in (tmp_path / "run/checkpoint").glob("step-*")]
    assert sorted(kept) == [0, 4, 7, 8, 12, 14] and (tmp_path / "run/best/model.safetensors").is_file()
    for step in (12, 14):
        (tmp_path / f"run/checkpoint/step-{step:08d}").rename(tmp_path / f"moved-{step}")
    train(config, tmp_path / "run", resume=True)
    assert validations(tmp_path / "run") == found


def test_ijb_and_pairs_are_validated_together(ijb: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.bin", pairs=20)
    config = tiny(epochs=1, validation=f"{pairs}, {ijb}")
    found = train(config, start(config, tmp_path / "run"))["validation"]
    protocol = IJBProtocol(ijb)
    own = protocol.score(embed(TorchEmbedder(load_timm(tmp_path / "run"), InputSpec()), protocol.images()))
    assert found["auc IJB-C"] == own.auc and found["accuracy"] == found["accuracy pairs.bin"]
    assert found["auc"] == pytest.approx((found["auc IJB-C"] + found["auc pairs.bin"]) / 2)


def test_a_figure_that_cannot_be_measured_is_left_out(tmp_path: Path) -> None:
    """TAR at FAR 1e-4 needs 10,000 pairs of two people."""
    (few,) = open_validation(tiny(validation=str(write_pairs(tmp_path / "pairs.bin", pairs=20))))
    found = measured(torch.nn.Flatten(), InputSpec(), torch.device("cpu"), [few], no_progress)
    assert set(found) == {"accuracy", "auc"} and found["auc"] > 0.9


def test_a_protocol_without_pairs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.evaluate.protocols import Found

    found = [Found("tinyface", "tinyface", tmp_path)]
    monkeypatch.setattr("zoo.train.validate.find_benchmarks", lambda place: found)
    with pytest.raises(InputError, match="expected pairs or IJB for --validation, found tinyface"):
        open_validation(tiny(validation="benchmarks"))
