"""Export: the file computes what torch computes, says so, is the same every time, and is absent where it would not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from tests.support.exporting import (
    DIM,
    SMALL,
    Odd,
    Tiny,
    backbone,
    info_for,
    make_run,
    require_same,
    traces_of_this_machine,
    trained_a_little,
)
from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.export import onnx as exporter
from zoo.export import parity
from zoo.export.onnx import fold_neck, rounding, to_proto, write_onnx
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelInfo]:
    """One MobileFaceNet, exported with one thread of torch and shared by the tests that only read it."""
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return path, write_onnx(backbone(SMALL), path, info_for(SMALL))
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
        write_onnx(Liar(), path, ModelInfo(3))
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_an_operator_that_onnx_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 16, 16), nn.Sequential(nn.ReLU(), Odd()), nn.Flatten())
    with pytest.raises(InputError, match=r"operator zootest(::|\.)odd, used in 1\.1") as caught:
        write_onnx(model, tmp_path / "model.onnx", ModelInfo(245))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Blockwise(nn.Module):
    """Attention within blocks of tokens, as timm's nest has it: queries of five dimensions."""

    fused_attn = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = x.unflatten(2, (4, 4))
        if self.fused_attn:
            return nn.functional.scaled_dot_product_attention(q, q, q).flatten(1)[:, :8]
        return ((q @ q.transpose(-2, -1) * 0.25).softmax(-1) @ q).flatten(1)[:, :8]


def test_attention_over_five_dimensions_is_spelled_out(tmp_path: Path) -> None:
    model, x = Blockwise().eval(), torch.randn(3, 3, 16, 16)
    proto = to_proto(model, (16, 16))
    (found,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"input": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x))
    assert model.fused_attn, "the model itself stays as it was"


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
    write_onnx(model, path, ModelInfo(DIM), batches=(1, 2), single_file_bytes=1000)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    large = OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 2))
    write_onnx(model, path, ModelInfo(DIM), batches=(1, 2))
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx"}
    assert np.array_equal(OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 2)), large)


@pytest.mark.soak
def test_more_than_two_gib_of_weights_are_exported_with_parity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = 19_000
    layers = [nn.Linear(245, wide), nn.ReLU(), nn.Linear(wide, wide, bias=False), nn.ReLU(), nn.Linear(wide, wide)]
    model = nn.Sequential(nn.Conv2d(3, 5, 16, 16), nn.Flatten(), *layers, nn.ReLU(), nn.Linear(wide, DIM))
    path = tmp_path / "model.onnx"
    write_onnx(model, path, ModelInfo(DIM))
    assert path.stat().st_size < 2**20 and (tmp_path / "model.onnx.data").stat().st_size > 2**31
    assert OnnxEmbedder(path, device="cpu")(parity.crops_for_parity((112, 112), 3)).shape == (3, DIM)


def test_another_size_and_opset_hold_too(tmp_path: Path) -> None:
    model = trained_a_little(Tiny((96, 80)), (96, 80))
    info = ModelInfo(DIM, input=InputSpec(size=(96, 80)))
    write_onnx(model, tmp_path / "model.onnx", info, opset=20, batches=(1, 2))
    assert ort.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].shape == ["batch", 3, 96, 80]
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 20
    with pytest.raises(InputError, match="opset from 18"):
        write_onnx(model, tmp_path / "model.onnx", info, opset=11)


def test_the_newest_run_exported_in_another_process_has_the_same_bytes(
    exported: tuple[Path, ModelInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "zoo", "export", "--onnx", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert Path(facts["model"]) == Path("runs/first/model.onnx")
    assert facts["info"]["backbone"] == SMALL and facts["parity"]["5"]["cosine"] >= parity.MIN_COSINE
    assert (run / "model.onnx").read_bytes() == exported[0].read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("opset", "ir_version"), [(18, 8), (20, 9), (23, 11)])
def test_a_file_states_no_newer_format_than_its_opset_needs(opset: int, ir_version: int) -> None:
    """Otherwise ONNX Runtime 1.15 to 1.17 refuse what they can compute."""
    assert to_proto(Tiny().eval(), (112, 112), opset).ir_version == ir_version


class PaddedPool(nn.Module):
    """A MaxPool over a border of zeros, where everything else is negative, as hgnetv2's stem has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(x - 5, (0, 1, 0, 1))
        return nn.functional.max_pool2d(padded, 2, 1).flatten(1)


def test_a_border_of_zeros_before_a_max_pool_stays_one_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 8, 8)
    proto = to_proto(PaddedPool().eval(), (8, 8))
    for optimise in (True, False):
        found = parity.run_session(parity.session(proto.SerializeToString(), optimise), x.numpy())
        np.testing.assert_array_equal(found, PaddedPool()(x).numpy())
    monkeypatch.setattr(exporter, "keep_zero_padding", lambda graph: None)
    fused = parity.session(to_proto(PaddedPool().eval(), (8, 8)).SerializeToString(), True)
    assert np.abs(parity.run_session(fused, x.numpy()) - PaddedPool()(x).numpy()).max() > 1, "the fault to be avoided"


def test_a_model_that_is_broken_in_torch_itself_is_refused_before_it_is_exported(tmp_path: Path) -> None:
    model = Tiny()
    with torch.no_grad():
        model.conv.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinity in torch itself"):
        write_onnx(model, tmp_path / "model.onnx", ModelInfo(DIM))
    assert list(tmp_path.iterdir()) == []


INPUTS = InputSpec().to_input(parity.crops_for_parity((112, 112), 3))


def plain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 16, 16), *layers, nn.Flatten(), nn.Linear(245, 7)).eval()


class Cancelling(nn.Module):
    """Loses most of its digits in float32: (x + large) − large."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.large = large
        self.layers = plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.layers(x) + self.large - self.large
        return embedding


class InFloat32(nn.Module):
    """Has a tensor that does not become float64 with the rest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ torch.ones(3 * 112 * 112, 2)


def test_torchs_own_rounding_tells_an_ill_conditioned_model() -> None:
    bad, good = rounding(Cancelling(1e6).eval(), INPUTS), rounding(Cancelling(0.0).eval(), INPUTS)
    assert bad is not None and not bad.within and good is not None and good.within
    assert rounding(InFloat32(), INPUTS) is None
