"""`zoo audit` and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.benchmarks import bench, model, own_cache, run
from zoo.evaluate import evaluate

__all__ = ["bench", "model", "own_cache"]


def test_the_exit_code_says_whether_every_measured_claim_holds(
    bench: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = evaluate(model, bench, device="cpu").accuracy
    claims = tmp_path / "c.csv"
    claims.write_text(f"benchmark,metric,value\ncolours,accuracy,{accuracy}\nLFW,accuracy,99.8\n")
    words = ["audit", model, "--claims", claims, "--device", "cpu"]
    status, out, _ = run(capsys, *words, "--data", bench)
    assert status == 0 and "holds" in out and "LFW accuracy" in out and "not measured" in out
    assert "colours.bin: flip, 10 folds in file order" in out
    status, out, _ = run(capsys, *words)
    assert status == 3 and "0.9980" in out
    claims.write_text("benchmark,metric,value\ncolours,accuracy,0.01\n")
    status, out, _ = run(capsys, *words, "--data", bench, "--json")
    (told,) = json.loads(out)["claims"]
    assert status == 1 and told["verdict"] == "below what is measured" and told["measured"] == accuracy
    status, out, err = run(capsys, "audit", model, "--device", "cpu")
    assert status == 2 and out == "" and err.count("\n") == 1 and "give them by --claims FILE" in err
