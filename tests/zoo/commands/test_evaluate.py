"""`zoo evaluate` from the command line to the report, on made-up pairs and, where they are there, on real faces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.onnx_models import write_model
from zoo import cli
from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import describe
from zoo.evaluate.benchmarks.thresholds import measured_thresholds, with_thresholds
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.protocols.base import curves
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.report.page import page
from zoo.evaluate.report.record import Report, read_record
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png
from zoo.inference.embed import embed
from zoo.inference.metadata import model_sha256, read_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import ModelInfo


def colour_pairs(pairs: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Flat pictures whose colour is the person; the two of a pair differ by a little noise."""
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    colours = rng.integers(30, 226, (2 * pairs, 3))
    colours[1::2][same] = colours[0::2][same]
    noisy = np.clip(colours + rng.integers(-25, 26, colours.shape), 0, 255).astype(np.uint8)
    return np.broadcast_to(noisy[:, None, None, :], (2 * pairs, 112, 112, 3)).copy(), same


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves embeddings in the user's cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A .bin of 60 pairs."""
    images, same = colour_pairs(60)
    write_bin(tmp_path / "colours.bin", [encode_png(image) for image in images], same)
    return tmp_path / "colours.bin"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx")


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_bin_file_scores_as_its_pictures_do(bench: Path, model: Path) -> None:
    images, same = colour_pairs(60)
    embedder = OnnxEmbedder(model, device="cpu")
    from_file, from_arrays = PairsProtocol.from_bin(bench), PairsProtocol(images, same)
    first = from_file.score(embed(embedder, from_file.images()))
    second = from_arrays.score(embed(embedder, from_arrays.images()))
    assert first.pop("data") == "colours.bin" and len(first.pop("data_sha256")) == 64
    del second["data"], second["data_sha256"]
    assert repr(first) == repr(second)  # NaN is not equal to itself
    assert 0.6 < first["accuracy"] <= 1 and first["auc"] > 0.7


def test_a_picture_in_many_pairs_is_embedded_once() -> None:
    images, same = colour_pairs(5)
    repeated = PairsProtocol(np.concatenate([images, images[::-1], images[:2]]), np.tile(same, 3)[:11])
    assert len(repeated) == len(list(repeated.images())) == 10
    vectors = np.random.default_rng(0).normal(size=(10, 4))
    left, right = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), None
    right = np.concatenate([left, left[::-1], left[:2]])
    np.testing.assert_allclose(repeated.cosines(vectors), (right[0::2] * right[1::2]).sum(1), atol=1e-15)


def test_the_norm_of_an_embedding_does_not_matter_to_pairs() -> None:
    images, same = colour_pairs(31)
    protocol = PairsProtocol(images, same)
    vectors = np.random.default_rng(0).normal(size=(len(protocol), 7))
    scaled = vectors * np.random.default_rng(1).uniform(0.1, 90, (len(protocol), 1))
    one, other = protocol.score(vectors), protocol.score(scaled)
    assert one["accuracy"] == other["accuracy"] and one["auc"] == pytest.approx(other["auc"], abs=1e-9)


def test_a_constant_embedding_is_worth_nothing() -> None:
    images, same = colour_pairs(40)
    protocol = PairsProtocol(images, same)
    figures = protocol.score(np.ones((len(protocol), 3)))
    assert figures["auc"] == 0.5 and figures["tar_at_far"]["0.1"] == 0.0
    assert "all scores are 1: the model gives every picture the same embedding" in figures["not_measurable"]


@pytest.mark.parametrize("compat", [None, "insightface"])
def test_the_table_and_the_json_tell_the_same(
    bench: Path, model: Path, compat: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", model, "--data", bench, "--device", "cpu", *(["--compat", compat] if compat else [])]
    status, out, _ = run(capsys, *arguments, "--json")
    figures = json.loads(out)
    assert status == 0 and figures["pairs"] == 60 and figures["tar_at_far"]["0.0001"] is None
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert f"{figures['accuracy']:.6f} ± {figures['accuracy_std']:.6f}" in out
    assert f"{figures['auc']:.6f}" in out and "30 negatives cannot show a rate below 1/30" in out
    assert ("folds as insightface" in out) == (compat is not None)


def test_a_run_folder_and_the_newest_run_are_models(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("backbone: resnet18\n")
    status, _, err = run(capsys, "evaluate", "--data", bench)
    assert status == 2 and "expected model.onnx in" in err and "zoo export" in err
    write_model(folder / "model.onnx")
    for named in ([], [folder], ["first"]):
        status, out, _ = run(capsys, "evaluate", *named, "--data", bench, "--json", "--device", "cpu")
        assert status == 0 and json.loads(out)["model"]["name"] == "first"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["absent.onnx"], "no such file"),
        (["absent"], "no model is called"),
        (["{model}", "--data", "absent.bin"], "at absent.bin, found nothing"),
        (["{model}", "--data", "{model}"], "expected"),
        (["{model}", "--data", "{bench}", "--compat", "facenet"], "found 'facenet'"),
        (["{model}", "--data", "{bench}", "--device", "gpu"], "expected the device"),
        (["{model}", "--data", "{bench}", "--batch-size", "0"], "batch size of at least 1"),
        (["{model}", "--data", "{bench}", "--workers", "-1"], "expected 0 workers or more"),
        (["{model}", "--data", "{bench}", "--mean", "nan"], "expected a finite number for --mean"),
        (["{model}", "--data", "{bench}", "--features", "N2D1"], "found 'N2D1'"),
        (["{model}", "--data", "{bench}", "--backend", "torch", "--bgr"], "expected an ONNX model for --bgr"),
        (["{model}", "--dtaa", "{bench}"], "did you mean --data?"),
        (["{model}", "--data", "{bench}", "--report", "{model}"], "expected a folder"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], sentence: str, bench: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(model=model, bench=bench) for argument in arguments]
    status, out, err = run(capsys, "evaluate", *filled)
    assert status == 2 and out == "" and sentence in err
    assert err.count("\n") == 1 and err.startswith("zoo: ")


def test_thresholds_with_enough_false_accepts_are_stored_with_what_they_hold_for(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, same = colour_pairs(900)
    write_bin(tmp_path / "many.bin", [encode_png(image[:9, :9]) for image in images], same)
    before = model_sha256(model)
    arguments = ["evaluate", model, "--data", tmp_path / "many.bin", "--device", "cpu", "--write-thresholds"]
    status, out, _ = run(capsys, *arguments, "--no-flip")
    assert status == 0 and "stored the threshold" in out
    assert "no threshold for FAR 0.01: 4 false accepts are behind it, 30 are needed" in out
    info = read_model_info(model)
    assert info is not None and [threshold.far for threshold in info.thresholds] == [0.1]
    stored = info.thresholds[0]
    assert stored.model_sha256 == before == model_sha256(model)
    assert (stored.negatives, stored.false_accepts, stored.flip, stored.data) == (450, 45, False, "many.bin")
    assert stored.far_interval[0] < 0.1 < stored.far_interval[1]
    run(capsys, *arguments)
    again = read_model_info(model)
    assert again is not None and len(again.thresholds) == 1 and again.thresholds[0].flip


def test_thresholds_of_another_model_are_dropped() -> None:
    images, same = colour_pairs(900)
    protocol = PairsProtocol(images[:, :2, :2], same)
    figures = protocol.score(embed(lambda c: c.mean(axis=(1, 2)).astype(np.float32) - 127, protocol.images()))
    mine, _ = measured_thresholds(figures, "mine", flip=True, precision="float32")
    theirs, _ = measured_thresholds(figures, "theirs", flip=True, precision="float32")
    info = with_thresholds(with_thresholds(ModelInfo(3), theirs), mine)
    assert {threshold.model_sha256 for threshold in info.thresholds} == {"mine"}


def a_record(bench: Path, model: Path, name: str) -> dict[str, Any]:
    protocol = PairsProtocol.from_bin(bench)
    embedder = OnnxEmbedder(model, device="cpu")
    facts = {
        "name": name, "sha256": embedder.model_sha256, "embedding_dim": 5, "precision": "float32", "provider": "CPU",
        "notes": [],
    }  # fmt: skip
    evaluation = protocol.evaluate(embed(embedder, protocol.images()))
    return Report(facts, [evaluation], {"flip": True}).record


def test_the_report_is_whole_and_needs_no_network(
    bench: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "r"
    status, _, _ = run(capsys, "evaluate", model, "--data", bench, "--device", "cpu", "--report", folder)
    assert status == 0
    record = read_record(folder / "report.json")
    assert record["model"]["sha256"] == model_sha256(model) and record["results"][0]["pairs"] == 60
    assert record["provenance"]["versions"]["numpy"] == np.__version__
    text = (folder / "report.html").read_text()
    assert text.count("<svg") == 3 and f"{record['results'][0]['auc']:.6f}" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?http|@import""", text)


def test_two_models_stand_side_by_side_and_a_name_is_no_markup(bench: Path, model: Path) -> None:
    text = page([a_record(bench, model, "one"), a_record(bench, model, "<script>alert(1)</script>")])
    assert text.count("<svg") == 4 and "<script>alert" not in text and "&lt;script&gt;" in text
    assert "one (1)" in page([a_record(bench, model, "one"), a_record(bench, model, "one")])


def test_something_else_than_a_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a report"):
        read_record(tmp_path / "x.json")


def test_the_sweep_counts_every_pair(bench: Path) -> None:
    rng = np.random.default_rng(0)
    scores, same = np.round(rng.uniform(-1, 1, 501), 3), rng.random(501) < 0.5
    from zoo.evaluate.metrics import SortedScores

    sweep = curves(SortedScores.of(scores, same))["sweep"]
    for place in (0, 700, 1000, 1301, 2000):
        threshold = place / 1000 - 1
        assert sweep["true_accepts"][place] == (scores[same] > threshold + 1e-9).sum()
        assert sweep["false_accepts"][place] == (scores[~same] > threshold + 1e-9).sum()


def test_every_protocol_has_a_line_that_describes_it() -> None:
    assert "pairs" in PROTOCOLS
    for name in PROTOCOLS:
        assert 20 < len(describe(name)["summary"]) < 140


def test_real_pairs_score_as_the_reference_says(shared: Path, real_embeddings: npt.NDArray[np.float32]) -> None:
    reference = json.loads((shared / "oracle_dev.json").read_text())["bin"]
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")
    figures = protocol.score(real_embeddings, compat="insightface")
    assert figures["pairs"] == reference["pairs"]
    assert figures["accuracy"] == pytest.approx(reference["insightface_accuracy"], abs=1e-9)
    assert figures["accuracy_std"] == pytest.approx(reference["insightface_std"], abs=1e-9)
    assert figures["auc"] == pytest.approx(reference["auc"], abs=1e-9)
    for far in ("0.1", "0.01"):
        assert figures["tar_at_far"][far] == reference[f"tar_at_far_{far}"]


@pytest.fixture(scope="session")
def real_embeddings(shared: Path) -> npt.NDArray[np.float32]:
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")
    embedder = OnnxEmbedder(shared / "models/mobilefacenet.onnx", device="cpu", threads=1)
    return embed(embedder, protocol.images())
