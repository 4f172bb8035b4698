"""Export: the file computes what torch computes, says so, is the same every time, and is absent where it would not."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from tests.support.exporting import require_same, traces_of_this_machine, trained_a_little
from tests.support.places import ROOT
from zoo.backbones import FlatNeck, blueprint_of, create_backbone, save_timm
from zoo.cli import main
from zoo.data.synthetic import SyntheticFaces
from zoo.errors import InputError
from zoo.export import onnx as exporter
from zoo.export import parity
from zoo.export.onnx import export_onnx, fold_neck, to_proto
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo
from zoo.runs import lock

DIM = 37
SMALL = "mobilefacenet"


class Tiny(nn.Module):
    """The smallest embedder with a flat neck: what tests of the machinery export."""

    def __init__(self, size: tuple[int, int] = (112, 112)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 16, 16)
        self.norm = nn.BatchNorm2d(5)
        self.neck = FlatNeck(5, size[0] // 16, size[1] // 16, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.neck(self.norm(self.conv(x)).relu())
        return embedding


@functools.cache
def backbone(name: str) -> nn.Module:
    torch.manual_seed(0)
    return trained_a_little(create_backbone(name, DIM))


def info_for(name: str) -> ModelInfo:
    model = backbone(name)
    return ModelInfo(
        DIM, backbone=name, neck=blueprint_of(model).neck, stem="face", head="softmax", training_set="none"
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelInfo]:
    """One MobileFaceNet, exported with one thread of torch and shared by the tests that only read it."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return path, export_onnx(backbone(SMALL), path, info_for(SMALL))
    finally:
        torch.set_num_threads(threads)


def test_mobilefacenet_exports_with_parity(exported: tuple[Path, ModelInfo]) -> None:
    require_same(exported[0], backbone(SMALL))


def test_the_file_keeps_the_contract(exported: tuple[Path, ModelInfo]) -> None:
    proto = onnx.load(exported[0])
    onnx.checker.check_model(proto, full_check=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"input": ["batch", 3, 112, 112], "embedding": ["batch", DIM]}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert [entry.key for entry in proto.metadata_props] == ["zoo"]
    assert ModelInfo.from_json(proto.metadata_props[0].value) == exported[1]


def test_no_source_path_is_left_in_the_file(exported: tuple[Path, ModelInfo]) -> None:
    assert traces_of_this_machine(exported[0].read_bytes()) == []


def test_the_search_for_source_paths_finds_what_the_exporter_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "strip", lambda proto: None)
    content = to_proto(trained_a_little(Tiny()), (112, 112)).SerializeToString()
    assert str(ROOT) in traces_of_this_machine(content)


@pytest.mark.parametrize(
    ("manual", "model", "picture"),
    [("README.md", "runs/NAME/model.onnx", "aligned.png"), ("docs/export.md", "model.onnx", "crop.png")],
)
def test_the_manuals_ten_lines_of_plain_onnxruntime_embed_as_zoo_does(
    manual: str,
    model: str,
    picture: str,
    exported: tuple[Path, ModelInfo],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = (ROOT / manual).read_text(encoding="utf-8").split("```python\n")[1:]
    (code,) = [block for block in (text.split("```", 1)[0] for text in blocks) if "InferenceSession" in block]
    assert len(code.strip().splitlines()) <= 10 and "zoo" not in code and "torch" not in code
    crop = parity.crops_for_parity((112, 112), 1)[0]
    cv2.imwrite(str(tmp_path / picture), crop[..., ::-1])
    (tmp_path / model).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(exported[0], tmp_path / model)
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    expected = OnnxEmbedder(exported[0], device="cpu")(crop[None])[0]
    assert np.abs(names["embedding"] - expected).max() <= 1e-4 * np.abs(expected).max()


def test_parity_is_measured_at_every_batch_with_and_without_graph_optimisation(
    exported: tuple[Path, ModelInfo],
) -> None:
    record = exported[1].parity
    assert set(record) == {str(batch) for batch in parity.BATCHES}
    for figures in record.values():
        assert set(figures["unoptimised"]) | {"unoptimised"} == set(figures)
        assert min(figures["cosine"], figures["unoptimised"]["cosine"]) >= parity.MIN_COSINE


class Liar(nn.Module):
    """Computes something else while it is exported than when it is asked."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3))
        return pooled + 0.01 if torch.compiler.is_exporting() else pooled


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old one")
    with pytest.raises(parity.ParityError, match="nothing was written"):
        export_onnx(Liar(), path, ModelInfo(3))
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


@torch.library.custom_op("zootest::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    """An operator that ONNX has never heard of."""
    return x.clone()


@odd.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.zootest.odd(x)
        return result


def test_an_operator_that_onnx_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 16, 16), nn.Sequential(nn.ReLU(), Odd()), nn.Flatten())
    with pytest.raises(InputError, match=r"operator zootest(::|\.)odd, used in 1\.1") as caught:
        export_onnx(model, tmp_path / "model.onnx", ModelInfo(245))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_differences_equal_the_plain_definition() -> None:
    rng = np.random.default_rng(0)
    ours = rng.standard_normal((3, 7)).astype(np.float32)
    theirs = ours + np.float32(0.01) * rng.standard_normal((3, 7)).astype(np.float32)
    found = parity.differences(ours, theirs)
    cosines = [
        float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(ours.astype(float), theirs.astype(float), strict=True)
    ]
    assert found["cosine"] == pytest.approx(min(cosines), abs=1e-12)
    assert found["max_abs"] == pytest.approx(np.abs(ours.astype(float) - theirs).max(), abs=1e-12)
    assert parity.differences(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))["cosine"] == 1
    assert parity.differences(ours, np.zeros_like(ours))["cosine"] == 0


def test_figures_are_rounded_to_the_unfavourable_side() -> None:
    assert parity.rounded({"cosine": 0.9999999, "max_abs": 1.2e-7}) == {"cosine": 0.999999, "max_abs": 2e-07}
    assert parity.rounded({"cosine": 1.0, "max_abs": 0.0}) == {"cosine": 1.0, "max_abs": 0.0}


def test_a_proof_fails_at_the_first_batch_out_of_tolerance_and_at_not_a_number() -> None:
    ours = np.ones((1, 3), np.float32)
    good, bad = (parity.rounded(parity.differences(ours, theirs)) for theirs in (ours, ours * np.float32(np.nan)))
    right, wrong, optimised = (
        {**first, "unoptimised": second} for first, second in ((good, good), (bad, bad), (bad, good))
    )
    assert parity.failure({"1": right, "2": right}) is None
    for figures, only_optimised in ((wrong, False), (optimised, True)):
        failed = parity.failure({"1": right, "2": figures, "5": wrong})
        assert failed is not None and (failed.batch, failed.only_optimised) == (2, only_optimised)


def test_folding_a_neck_changes_nothing_but_rounding() -> None:
    model, x = trained_a_little(Tiny()), torch.randn(3, 3, 112, 112)
    with torch.no_grad():
        expected = model(x)
        folded = fold_neck(model)
        assert isinstance(folded.neck[0], nn.Identity)
        found = folded(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_every_batch_norm_is_folded() -> None:
    operators = [node.op_type for node in to_proto(trained_a_little(Tiny()), (112, 112)).graph.node]
    assert "BatchNormalization" not in operators and "Conv" in operators


def test_weights_beyond_one_file_lie_beside_the_graph_and_leave_with_it(tmp_path: Path) -> None:
    model, path = trained_a_little(Tiny()), tmp_path / "model.onnx"
    export_onnx(model, path, ModelInfo(DIM), batches=(1, 2), single_file_bytes=1000)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    large = OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 2))
    export_onnx(model, path, ModelInfo(DIM), batches=(1, 2))
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx"}
    assert np.array_equal(OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 2)), large)


@pytest.mark.soak
def test_more_than_two_gib_of_weights_are_exported_with_parity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = 19_000
    layers = [nn.Linear(245, wide), nn.ReLU(), nn.Linear(wide, wide, bias=False), nn.ReLU(), nn.Linear(wide, wide)]
    model = nn.Sequential(nn.Conv2d(3, 5, 16, 16), nn.Flatten(), *layers, nn.ReLU(), nn.Linear(wide, DIM))
    path = tmp_path / "model.onnx"
    export_onnx(model, path, ModelInfo(DIM))
    assert path.stat().st_size < 2**20 and (tmp_path / "model.onnx.data").stat().st_size > 2**31
    assert OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 3)).shape == (3, DIM)


def test_another_size_and_opset_hold_too(tmp_path: Path) -> None:
    model = trained_a_little(Tiny((96, 80)), (96, 80))
    info = ModelInfo(DIM, input=InputSpec(size=(96, 80)))
    export_onnx(model, tmp_path / "model.onnx", info, opset=20, batches=(1, 2))
    assert ort.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].shape == ["batch", 3, 96, 80]
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 20
    with pytest.raises(InputError, match="opset from 18"):
        export_onnx(model, tmp_path / "model.onnx", info, opset=11)


def test_parity_crops_are_faces_of_nobody_in_training() -> None:
    crops = parity.crops_for_parity((112, 112), 5)
    assert crops.shape == (5, 112, 112, 3)
    assert np.array_equal(crops[4], SyntheticFaces(2, 3, seed=0, split="test").image(4))


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run called `first` in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}\n")
    save_timm(backbone(SMALL), run, asdict(info_for(SMALL)))
    return run


def test_the_newest_run_exported_in_another_process_has_the_same_bytes(
    run_folder: Path, exported: tuple[Path, ModelInfo]
) -> None:
    command = [sys.executable, "-m", "zoo", "export", "--onnx", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert Path(facts["model"]) == Path("runs/first/model.onnx")
    assert facts["info"]["backbone"] == SMALL and facts["parity"]["5"]["cosine"] >= parity.MIN_COSINE
    assert (run_folder / "model.onnx").read_bytes() == exported[0].read_bytes()


@pytest.mark.parametrize(
    ("break_it", "arguments", "message"),
    [
        (lambda run: (run / "model.safetensors").unlink(), ["--onnx"], "never finished an epoch"),
        (lambda run: (run / "model.onnx").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: None, [], "expected a format"),
        (lambda run: None, ["second", "--onnx"], "no model is called"),
        (lambda run: (run / "model.onnx.data").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: (run / "export.json").write_bytes(b""), ["--onnx"], "add --force"),
        (lambda run: (run / "model.safetensors").write_bytes(b"torn"), ["--onnx"], "cannot read the weights"),
        (lambda run: None, ["--onnx", "-o", "nowhere/model.onnx"], "found none at nowhere"),
        (lambda run: None, ["--onnx", "-o", "no/where"], "cannot make the folder no/where"),
        (lambda run: None, ["--onnx", "-o", "runs/first/config.yaml"], "found another file"),
        (lambda run: None, ["--onnx", "-o", "/proc/model.onnx"], "cannot write into /proc"),
        (lambda run: None, ["--onnx", "--safetensors", "-o", "runs/first", "--calibrate", "x"], "add --force"),
        (lambda run: None, ["--safetensors", "-o", "new", "--opset", "20"], "add --onnx"),
        (lambda run: None, ["--onnx", "--calibration-method", "entropy"], "add --int8"),
        (lambda run: None, ["--onnx", "--data", "pairs.bin"], "add --fp16 or --int8"),
        (lambda run: None, ["--onnx", "--calibrate", "nowhere", "-o", "new"], "found nothing"),
        (lambda run: None, ["--onnx", "--opset", "7"], "opset from"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_sentence(
    break_it: object, arguments: list[str], message: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(run_folder)
    before = sorted(run_folder.iterdir())
    assert main(["export", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(run_folder.iterdir()) == before
    assert [path.name for path in Path().iterdir()] == ["runs"], "a folder that was made for nothing is gone again"


def test_what_the_disk_refuses_is_told_and_leaves_no_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporter, "save", full)
    assert main(["export", "--onnx", "-o", "new"]) == 2
    assert "cannot write new/model.onnx (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_an_operator_that_onnx_lacks_is_named_at_the_command_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.backbones.load_timm", lambda folder: nn.Sequential(Tiny(), nn.Sequential(Odd())))
    before = sorted(run_folder.iterdir())
    assert main(["export", "--onnx"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no counterpart of the operator zootest.odd, used in 1.0" in said.replace("::", ".")
    assert sorted(run_folder.iterdir()) == before


def test_a_wrong_export_is_one_sentence_that_names_the_layer_and_leaves_no_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model.get_submodule("blocks.3.residual.1.0").weight.neg_()
        return fold_neck(model)

    monkeypatch.setattr(exporter, "fold_neck", fold_wrongly)
    before = sorted(run_folder.iterdir())
    assert main(["export", "--onnx"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "expected model.onnx to compute what torch computes, found on a batch of 1 crop a cosine of" in said
    assert "they agree up to the layer blocks.3.residual.0 and no longer from blocks.3.residual.1.0 on" in said
    assert "nothing was written" in said and "Traceback" not in said
    assert sorted(run_folder.iterdir()) == before


def test_a_graph_that_only_optimisation_makes_wrong_is_told_so() -> None:
    failed = parity.Failure(33, {"cosine": 0.5, "max_abs": 1.0, "max_relative": 0.3}, only_optimised=True)
    said = str(parity.refusal(failed, "model.onnx", ""))
    assert "on a batch of 33 crops" in said and "graph optimisation changes what it computes" in said


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_broken_in_torch_itself_is_refused_before_it_is_exported(tmp_path: Path) -> None:
    model = Tiny()
    with torch.no_grad():
        model.conv.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite in torch itself"):
        export_onnx(model, tmp_path / "model.onnx", ModelInfo(DIM))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_being_written_is_refused(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock(run_folder):
        assert main(["export", "--onnx"]) == 2
    assert "is being written" in capsys.readouterr().err
