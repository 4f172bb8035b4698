"""One model measured on one benchmark or many, by a call of Python."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.benchmarks import bench, lfw, model, own_cache, rfw, run, write_pairs
from tests.support.onnx_models import write_model
from zoo.errors import InputError
from zoo.evaluate import Options, evaluate, evaluate_all, metrics
from zoo.evaluate.benchmarks import runner
from zoo.evaluate.calibration import Costs, cllr, min_dcf
from zoo.evaluate.protocols import PairsProtocol
from zoo.inference.embed import embed
from zoo.inference.metadata import read_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import ModelInfo

__all__ = ["bench", "lfw", "model", "own_cache", "rfw"]

CPU = {"device": "cpu"}


def test_a_model_is_measured_by_one_call(bench: Path, model: Path) -> None:
    found = evaluate(model, bench, **CPU)
    protocol = PairsProtocol.from_bin(bench)
    expected = protocol.score(embed(OnnxEmbedder(model, device="cpu"), protocol.images()))
    assert found.accuracy == expected.accuracy and found.tar_at_far[0.1] == expected.tar_at_far[0.1]
    assert evaluate(model, protocol, **CPU).auc == expected.auc
    report = evaluate_all(model, bench, flip=False, **CPU)
    assert report.options.flip is False and report.results[0].data == "colours.bin"


def test_the_command_prints_what_the_call_returns(bench: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(model, bench, compat="insightface", **CPU)
    words = ["evaluate", model, "--data", bench, "--device", "cpu", "--compat", "insightface", "--json"]
    told = json.loads(run(capsys, *words)[1])
    assert {key: told[key] for key in ("accuracy", "auc", "eer", "tar_at_far")} == {
        key: found.to_json()[key] for key in ("accuracy", "auc", "eer", "tar_at_far")
    }


def test_a_folder_of_benchmarks_is_a_report(tmp_path: Path, model: Path) -> None:
    for name in ("lfw", "cfp_fp"):
        write_pairs(tmp_path / "b" / f"{name}.bin")
    (tmp_path / "b" / "broken.bin").write_bytes(b"no pairs")
    report = evaluate_all(model, tmp_path / "b", **CPU)
    assert [found.data for found in report.results] == ["CFP-FP", "LFW"]
    assert len(report.not_measured) == 1 and "broken.bin" in report.not_measured[0]
    assert "is not all of LFW: 40 pairs instead of 6,000" in report.results[1].notes[-1]
    assert [found.data for found in evaluate_all(model, tmp_path / "b", only=["lfw"], **CPU).results] == ["LFW"]
    with pytest.raises(InputError, match=r"expected one benchmark .*, found 3 .*; evaluate_all measures them all"):
        evaluate(model, tmp_path / "b", **CPU)


def test_groups_of_one_family_are_compared_at_one_threshold(rfw: Path, model: Path) -> None:
    groups = evaluate_all(model, rfw, **CPU).groups
    assert groups is not None and groups.not_measurable is None
    assert sorted(groups.groups) == ["RFW African", "RFW Asian", "RFW Caucasian", "RFW Indian"]


def test_what_cannot_be_measured_is_one_sentence(tmp_path: Path, lfw: Path, model: Path) -> None:
    (lfw / "aligned" / "Person_03" / "Person_03_0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"LFW, m\.onnx: expected a .*Person_03_0002"):
        evaluate(model, lfw, **CPU)
    with pytest.raises(InputError, match="no such file"):
        evaluate(tmp_path / "absent.onnx", "synthetic", **CPU)


def test_embeddings_are_watched_and_reused_with_a_word(bench: Path, model: Path) -> None:
    seen: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def watch(what: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        seen.append((what, total - sum(done)))

    told: list[str] = []
    loaded = runner.load_model(model, Options(**CPU))
    for _ in range(2):
        runner.measure(loaded, runner.open_benchmarks(bench), watch, told.append)
    assert seen == [("embedding colours.bin", 0)]
    assert told == ["colours.bin: embeddings reused from the cache (--no-cache computes them again)"]


def test_a_batch_size_or_more_readers_reuse_what_another_precision_does_not(bench: Path, model: Path) -> None:
    told: list[str] = []
    for options in ({}, {"batch_size": 7}, {"workers": 0}, {"strict": True}):
        loaded = runner.load_model(model, Options(**CPU, **options))
        runner.measure(loaded, runner.open_benchmarks(bench), tell=told.append)
    assert len(told) == 2


def test_thresholds_are_stored_by_the_call_too(tmp_path: Path, model: Path) -> None:
    data = write_pairs(tmp_path / "many.bin", 900, size=9)
    evaluate(model, data, write_thresholds=True, **CPU)
    info = read_model_info(model)
    assert info is not None and [threshold.far for threshold in info.thresholds] == [0.1]


def test_fused_scores_are_the_mean_of_the_models_scores(lfw: Path, model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", seed=3)
    tables = [tmp_path / f"{name}.parquet" for name in ("one", "two", "both")]
    evaluate_all(model, lfw, scores=tables[0], **CPU)
    evaluate_all(other, lfw, scores=tables[1], **CPU)
    report = evaluate_all(model, lfw, fused_with=[other], scores=tables[2], prior="0.1", thumbnails=True, **CPU)
    one, two, both = (pq.read_table(table).to_pydict() for table in tables)
    own = np.stack([one["score"], two["score"]], axis=1)
    weights, *_ = np.linalg.lstsq(own, np.array(both["score"]), rcond=None)
    np.testing.assert_allclose(own @ weights, both["score"], atol=1e-6)
    assert weights.sum() == pytest.approx(1, abs=1e-4) and (weights > 0.05).all()
    assert set(both["model"]) == {"m.onnx + other.onnx"} == {report.model.name}
    assert set(both["model_sha256"]) == {report.model.sha256} != set(one["model_sha256"])
    assert set(both["benchmark_sha256"]) == {report.results[0].data_sha256}
    assert all(Path(image).is_file() for image in both["image_a"]) and "Person_" in both["person_a"][0]
    (found,) = report.results
    scores, same = np.array(both["score"]), np.array(both["same"])
    assert found.auc == metrics.auc(metrics.SortedScores.of(scores, same))
    assert found.figures["Cllr"] == pytest.approx(cllr(np.array(both["ln_lr"]), same))
    assert found.figures["minimum DCF, prior 0.1"] == min_dcf(scores, same, Costs(0.1))
    assert found.curves.rejection is None  # fused rows have no norms
    assert any("ln LR = " in note for note in found.notes)
    assert set(one["ln_lr"]) == {None}


def test_scores_that_cannot_be_written_cost_no_figures(
    bench: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InputError("cannot write the scores (No space left on device)")

    monkeypatch.setattr("zoo.formats.score_table.ScoreTable.add", full)
    report = evaluate_all(model, bench, scores=tmp_path / "s.parquet", **CPU)
    assert report.results[0].pairs == 60 and "No space left" in report.not_measured[0]


@pytest.fixture
def torch_folder(tmp_path: Path) -> Path:
    """A small model in timm's layout, without a block of ours."""
    import torch

    from zoo.backbones import create_backbone, save_timm

    torch.manual_seed(0)
    folder = tmp_path / "third-party"
    save_timm(create_backbone("test_resnet", 16, stem="stock", neck="gap").eval(), folder, {})
    config = json.loads((folder / "config.json").read_text())
    del config["zoo"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_model_that_was_not_exported_is_measured_by_torch_whatever_names_it(
    torch_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.backbones.timm_folder import TorchFolder

    data = write_pairs(tmp_path / "few.bin", 12, size=112)
    protocol = PairsProtocol.from_bin(data)
    expected = protocol.score(embed(TorchFolder(torch_folder, device="cpu"), protocol))
    monkeypatch.setattr("zoo.hub.pull.pull", lambda name, files: SimpleNamespace(folder=torch_folder))
    for named in (torch_folder, f"local-dir:{torch_folder}", "hf-hub:owner/name"):
        report = evaluate_all(named, data, backend="torch", **CPU)
        assert report.results[0].auc == expected.auc
        assert report.model.file == "model.safetensors" and report.model.provider.startswith("torch ")
        assert report.model.embedding_dim == 16
        assert report.model.name == ("owner/name" if "hub" in str(named) else "third-party")


@pytest.mark.soak
def test_a_run_scores_the_same_by_torch_as_by_its_export(tmp_path: Path) -> None:
    import torch

    from zoo.backbones import create_backbone, save_timm
    from zoo.export.onnx import write_onnx

    torch.manual_seed(0)
    network = create_backbone("mobilefacenet", embedding_dim=64).eval()
    folder = tmp_path / "run"
    info = ModelInfo(64, backbone="mobilefacenet")
    save_timm(network, folder, asdict(info))
    write_onnx(network, folder / "model.onnx", info)
    data = write_pairs(tmp_path / "c.bin", 60)
    by_onnx, by_torch = (evaluate(folder, data, backend=backend, **CPU) for backend in ("onnx", "torch"))
    for key in ("accuracy", "auc", "eer"):
        assert getattr(by_onnx, key) == pytest.approx(getattr(by_torch, key), abs=1e-5)
    np.testing.assert_allclose(by_onnx.fold_thresholds, by_torch.fold_thresholds, atol=1e-5)


def test_evaluating_by_onnx_never_loads_torch(bench: Path, model: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from zoo.evaluate import evaluate;"
        f"evaluate({str(model)!r}, {str(bench)!r}, device='cpu', cache=False);"
        "print([name for name in ('torch', 'timm', 'albumentations', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
