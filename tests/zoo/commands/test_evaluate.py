"""`zoo evaluate` from the command line to the report."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import (
    bench,
    lfw,
    model,
    own_cache,
    pair_lines,
    rfw,
    run,
    write_pairs,
    write_people,
)
from tests.support.onnx_models import write_model
from zoo.evaluate.benchmarks.find import find_benchmarks
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.modelinfo import ModelInfo

__all__ = ["bench", "lfw", "model", "own_cache", "rfw"]


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
    (folder / "model.safetensors").write_bytes(b"")
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
        (["{model}", "--data", "{bench}", "--batch-size", "0"], "expected 1 or more for --batch-size"),
        (["{model}", "--data", "{bench}", "--workers", "-1"], "expected 0 or more for --workers"),
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


def test_strict_refuses_another_input_size(tmp_path: Path, bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = write_model(tmp_path / "small.onnx", ("n", 3, 96, 96))
    status, out, _ = run(capsys, "evaluate", small, "--data", bench, "--device", "cpu")
    assert status == 0 and "the model's input 96×96: resized" in out
    status, _, err = run(capsys, "evaluate", small, "--data", bench, "--device", "cpu", "--strict", "--no-cache")
    assert status == 2 and "leave out --strict" in err


def test_a_folder_of_groups_is_measured_and_their_spread_told(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, group in enumerate(("African", "Asian")):
        write_pairs(tmp_path / "rfw" / f"{group}_test.bin", pairs=240, seed=seed)
    status, out, _ = run(
        capsys, "evaluate", model, "--data", tmp_path / "rfw", "--device", "cpu", "--report", tmp_path / "r"
    )
    assert status == 0 and "FMR RFW African: " in out and "FMR differential" in out and "times the lowest" in out
    record = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(record["groups"]["groups"]) == len(record["results"]) == 2


def test_pairs_txt_over_a_folder_is_a_benchmark_whose_people_are_known(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (lfw, lfw / "pairs.txt"):
        status, out, _ = run(capsys, "evaluate", model, "--data", data, "--device", "cpu", "--json")
        figures = json.loads(out)
        assert status == 0 and figures["data"] == "LFW" and figures["pairs"] == 80 and figures["people"] == 12
        assert figures["intervals"].startswith("bootstrap of 12 people, 1,000 replicates")
        assert "80 pairs instead of 6,000" in " ".join(figures["notes"])
        for name in ("accuracy", "auc", "eer"):
            low, high = figures[f"{name}_interval"]
            assert low <= figures[name] <= high and high - low > 0


def test_rfw_as_handed_out_is_four_groups_of_known_people(
    rfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_benchmarks(rfw.parent)
    assert [one.name for one in found] == ["rfw_african", "rfw_asian", "rfw_caucasian", "rfw_indian"]
    assert [one.name for one in find_benchmarks(rfw.parent, ["rfw"])] == [one.name for one in found]
    protocol = found[1].open()
    assert isinstance(protocol, PairsProtocol) and protocol.data == "RFW Asian"
    assert {picture.shape for picture in protocol.images() if picture is not None} == {(112, 112, 3)}
    status, out, _ = run(capsys, "evaluate", model, "--data", rfw, "--device", "cpu")
    assert status == 0 and "FMR differential" in out
    assert "is not all of RFW Asian: 60 pairs instead of 6,000" in out and "6 people instead of 2,492" in out
    assert "aligned by the benchmark's landmarks" in out and "failures to enrol" in out


def test_an_incomplete_group_says_what_is_missing_and_the_others_are_measured(
    rfw: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rfw / "txts" / "Asian" / "Asian_pairs.txt").unlink()
    (rfw / "data" / "Indian" / "Person_02" / "Person_02_0001.jpg").write_bytes(b"no picture")
    arguments = ["evaluate", model, "--data", rfw, "--device", "cpu"]
    status, out, err = run(capsys, *arguments, "--report", tmp_path / "r")
    assert status == 2 and "RFW African" in out and "RFW Caucasian" in out
    lines = err.splitlines()
    assert len(lines) == 2 and all(line.startswith("zoo: ") for line in lines)
    assert "missing there: txts/Asian/Asian_pairs.txt" in lines[0] and "RFW Indian, m.onnx: expected a" in lines[1]
    record = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(record["results"]) == 2 and len(record["not_measured"]) == 2
    assert "Not measured:" in (tmp_path / "r" / "report.html").read_text()
    assert "failures to enrol" in (tmp_path / "r" / "report.md").read_text()
    told = json.loads(run(capsys, *arguments, "--json")[1])
    assert len(told["results"]) == 2 and len(told["not_measured"]) == 2


def test_a_benchmark_with_swapped_colours_is_reported(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "look swapped" not in run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu")[1]
    for file in lfw.rglob("*.jpg"):
        file.write_bytes(encode_jpeg(decode(file.read_bytes(), "x")[..., ::-1]))
    assert "red and blue look swapped" in run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu")[1]


def test_a_strangers_input_can_be_told(lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", model, "--data", lfw, "--device", "cpu", "--json"]
    plain = json.loads(run(capsys, *arguments)[1])
    assert "RGB and (x − 127.5) / 127.5 are assumed" in " ".join(plain["notes"])
    told = json.loads(run(capsys, *arguments, "--bgr", "--mean", "0", "--std", "255")[1])
    assert told["model"]["input"]["channel_order"] == "BGR" and told["model"]["input"]["std"] == 255
    assert "assumed" not in " ".join(told["notes"]) and told["auc"] != plain["auc"]
    status, _, err = run(capsys, *arguments, "--std", "0")
    assert status == 2 and "expected a positive input std" in err


def test_thresholds_are_not_stored_for_another_input_than_the_models(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.inference.metadata import write_model_info

    write_model_info(model, ModelInfo(5))
    status, _, err = run(capsys, "evaluate", model, "--data", lfw, "--device", "cpu", "--bgr", "--write-thresholds")
    assert status == 2 and "expected the input that" in err


def test_photos_taken_for_crops_are_noted_and_a_detector_needs_photos(
    tmp_path: Path, model: Path, lfw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_people(tmp_path / "raw" / "pictures", 4, size=130)
    (tmp_path / "raw" / "pairs.txt").write_text("\n".join(["2 5", *pair_lines(names, 20)]))
    out = run(capsys, "evaluate", model, "--data", tmp_path / "raw", "--device", "cpu")[1]
    assert "pictures of 130×130 are taken as aligned crops; --detector yunet" in out
    data = write_pairs(tmp_path / "b.bin")
    status, _, err = run(capsys, "evaluate", model, "--data", data, "--device", "cpu", "--detector", "yunet")
    assert status == 2 and "expected a list of pairs over photos" in err


def test_faces_are_found_in_photos_and_those_that_are_not_are_counted(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = shared / "models/face_detection_yunet_2026may.onnx"
    (tmp_path / "blank.png").write_bytes(encode_png(np.full((200, 300, 3), 90, np.uint8)))
    rows = (shared / "photos/pairs.csv").read_text().splitlines()
    names = [row.split(",") for row in rows[1:]]
    lines = [rows[0]] + [
        ",".join([str(shared / "photos" / row[0]), str(shared / "photos" / row[1]), *row[2:]]) for row in names
    ]
    lines.append(f"{tmp_path / 'blank.png'},{shared / 'photos' / names[0][0]},0" + "," * (len(names[0]) - 3))
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    arguments = [shared / "models/mobilefacenet.onnx", "--data", tmp_path / "own.csv", "--detector", detector]
    status, out, _ = run(capsys, "evaluate", *arguments, "--device", "cpu", "--json")
    figures = json.loads(out)
    assert status == 0 and figures["failures"]["images"] == 1 and figures["failures"]["pairs"] == 1
    assert figures["auc"] > 0.95 and "the face nearest the centre" in figures["failures"]["cut"]


def test_several_devices_from_the_command_line_and_missing_ones(
    lfw: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["evaluate", model, "--data", lfw, "--no-cache", "--json", "--device"]
    one, two = (json.loads(run(capsys, *arguments, device)[1]) for device in ("cpu", "cpu,cpu"))
    assert one == two
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 0)
    for devices, sentence in (
        ("cuda:0,cuda:1", "expected to run on cuda:1, but no CUDA GPU was found"),
        ("cpu,cuda:1", "expected several devices of one kind"),
        ("auto,auto", "expected several devices of one kind"),
        ("cpu,", "expected the device"),
    ):
        status, _, err = run(capsys, *arguments, devices)
        assert status == 2 and sentence in err and err.count("\n") == 1


def test_folders_archives_tables_and_grouped_lists_are_measured(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    names = write_people(tmp_path / "people", 6)
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "people")
    shutil.make_archive(str(tmp_path / "tarred"), "gztar", tmp_path, "people")
    pictures = [[(tmp_path / "people" / name / f"{name}_000{n}.jpg").read_bytes() for n in (1, 2)] for name in names]
    rows = [(own[0], own[1], 1) for own in pictures] + [(a[0], b[0], 0) for a, b in itertools.pairwise(pictures)]
    columns = dict(zip(("image1", "image2", "target"), map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(arrow.table(columns), tmp_path / "pairs.parquet")
    found = {}
    for data in ("people", "zipped.zip", "tarred.tar.gz", "pairs.parquet"):
        status, out, err = run(capsys, "evaluate", model, "--data", tmp_path / data, "--device", "cpu", "--json")
        assert status == 0, err
        found[data] = json.loads(out)
    assert found["people"]["pairs"] == 18 * 17 // 2 and found["people"]["fold_order"] == "stratified, seed 0"
    assert found["zipped.zip"]["auc"] == found["tarred.tar.gz"]["auc"] == found["people"]["auc"]
    assert found["pairs.parquet"]["pairs"] == 11
    told = json.loads(
        run(capsys, "evaluate", model, "--data", tmp_path / "people", "--device", "cpu", "--json", "--pairs", 2)[1]
    )
    assert told["positives"] == 12 and told["negatives"] <= 12
    assert run(capsys, "evaluate", model, "--data", tmp_path / "zipped.zip", "--protocol", "ijb")[0] == 2


def test_the_groups_of_a_csv_are_in_every_output(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_people(tmp_path / "p", 8)
    rng = np.random.default_rng(0)
    lines = ["a,b,same,region"]
    for number in range(120):
        a, b = rng.choice(len(names), 2, replace=False)
        one = f"p/{names[a]}/{names[a]}_0001.jpg"
        other = f"p/{names[a]}/{names[a]}_0002.jpg" if number % 2 else f"p/{names[b]}/{names[b]}_0001.jpg"
        lines.append(f"{one},{other},{number % 2},{('north', 'south')[number // 2 % 2]}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    report = tmp_path / "r"
    status, out, _ = run(
        capsys, "evaluate", model, "--data", tmp_path / "own.csv", "--device", "cpu", "--report", report
    )
    assert status == 0
    record = json.loads((report / "report.json").read_text())
    assert record["results"][0]["groups"]["region"]["groups"]["north"]["fmr_interval"]
    for text in (out, *((report / f"report.{suffix}").read_text() for suffix in ("html", "md", "csv", "tex"))):
        for label in ("FMR region north", "FNMR region south", "FMR region differential", "threshold at FAR 0.1"):
            assert label in text


def test_fused_models_are_a_row_beside_the_models_and_their_scores_a_table(
    bench: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model(tmp_path / "other.onnx", seed=3)
    written = ["--report", tmp_path / "r", "--scores", tmp_path / "s.parquet", "--no-thumbnails"]
    words = ["evaluate", model, other, "--fuse", "--data", bench, "--device", "cpu", "--prior", "0.01", *written]
    status, out, err = run(capsys, *words)
    assert status == 0 and err == "" and "s.parquet has the scores of 180 pairs: who resembles whom is personal" in out
    rows = [line for line in (tmp_path / "r" / "report.md").read_text().splitlines() if line.startswith("| m.onnx + ")]
    assert len(rows) == 1 and rows[0].startswith("| m.onnx + other.onnx |")
    assert out.count("minimum DCF, prior 0.01") == 3 and "m.onnx + other.onnx against m.onnx, AUC" in out
    assert "data:image" not in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--fuse"], "expected at least two models for --fuse, found 1"),
        (["--scores", "s.csv"], "ending in .parquet"),
        (["--prior", "1"], "expected a prior between 0 and 1"),
        (["--prior", "0.1:9"], "expected a prior and costs as 0.01 or 0.01:10:1, found 0.1:9"),
        (["--prior", "half"], "found half"),
    ],
)
def test_wrong_wishes_for_scores_are_one_sentence(
    words: list[str], sentence: str, bench: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "evaluate", model, "--data", bench, "--device", "cpu", *words)
    assert status == 2 and out == "" and sentence in err and err.count("\n") == 1
