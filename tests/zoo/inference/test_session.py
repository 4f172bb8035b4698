"""ONNX files of any origin: those that must work do, the others are refused in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.onnx_models import DIM, write_model
from zoo.errors import InputError
from zoo.inference.metadata import write_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def expected(crops: np.ndarray, seed: int = 0) -> np.ndarray:
    pixels = (crops.astype(np.float64) - 127.5) / 127.5
    return pixels.mean(axis=(1, 2)) @ np.random.default_rng(seed).normal(size=(3, DIM))


def test_a_plain_model_embeds_what_its_formula_says(tmp_path: Path, crops: np.ndarray) -> None:
    model = OnnxEmbedder(write_model(tmp_path / "m.onnx"), device="cpu")
    assert model.embedding_dim == DIM and model.info is None and model.provider == "CPUExecutionProvider"
    assert "RGB and (x − 127.5) / 127.5 are assumed" in " ".join(model.notes)
    np.testing.assert_allclose(model(crops), expected(crops), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_works_and_is_noted(tmp_path: Path, crops: np.ndarray, batch: int) -> None:
    model = OnnxEmbedder(write_model(tmp_path / "m.onnx", (batch, 3, 112, 112)), device="cpu")
    np.testing.assert_allclose(model(crops), expected(crops), atol=1e-5)
    assert any("fixed batch" in note for note in model.notes)


def test_a_batch_that_is_dynamic_only_by_name_is_found_out(tmp_path: Path, crops: np.ndarray) -> None:
    model = OnnxEmbedder(write_model(tmp_path / "m.onnx", reshape_to_one=True), device="cpu")
    assert model.batch == 1
    np.testing.assert_allclose(model(crops), expected(crops), atol=1e-5)


def test_another_input_size_works_on_resized_crops_and_is_noted(tmp_path: Path, crops: np.ndarray) -> None:
    model = OnnxEmbedder(write_model(tmp_path / "m.onnx", ("n", 3, 96, 80)), device="cpu")
    assert model.input.size == (96, 80)
    assert not any("resized" in note for note in model.notes)
    np.testing.assert_allclose(model(crops), expected(crops), atol=0.05)
    assert any("112×112, the model's input 80×96: resized" in note for note in model.notes)


def test_channels_last_and_half_precision_work(tmp_path: Path, crops: np.ndarray) -> None:
    last = OnnxEmbedder(write_model(tmp_path / "last.onnx", ("n", 112, 112, 3)), device="cpu")
    np.testing.assert_allclose(last(crops), expected(crops), atol=1e-5)
    half = OnnxEmbedder(write_model(tmp_path / "half.onnx", kind=TensorProto.FLOAT16), device="cpu")
    assert half.precision == "float16" and half(crops).dtype == np.float32
    np.testing.assert_allclose(half(crops), expected(crops), atol=0.02)


def test_the_stated_channel_order_is_heeded(tmp_path: Path, crops: np.ndarray) -> None:
    path = write_model(tmp_path / "m.onnx")
    write_model_info(path, ModelInfo(DIM, InputSpec(channel_order="BGR")))
    swapped = OnnxEmbedder(path, device="cpu")(crops)
    np.testing.assert_allclose(swapped, expected(crops[..., ::-1]), atol=1e-5)
    assert np.abs(swapped - expected(crops)).max() > 1e-3


def refusal(path: Path, device: str = "cpu") -> str:
    with pytest.raises(InputError) as caught:
        OnnxEmbedder(path, device=device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_embedder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model\nat all\n")
    assert "cannot load it" in refusal(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "expected an" in refusal(tmp_path / "empty.onnx")
    whole = write_model(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    assert "cannot load it" in refusal(tmp_path / "half.onnx")
    assert "tensor(double) ['n', 3]" in refusal(write_flat(tmp_path / "flat.onnx"))
    assert "no such file" in refusal(tmp_path / "absent.onnx")
    assert "expected the device" in refusal(tmp_path / "whole.onnx", device="gpu")


def write_flat(path: Path) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.DOUBLE, ["n", 3])],
        [value("y", TensorProto.DOUBLE, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_integer_pictures_are_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.INT64, ["n", 3, 8, 8])],
        [value("y", TensorProto.INT64, ["n", 192])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "i.onnx")
    assert "expected an image input" in refusal(tmp_path / "i.onnx")


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "cuda:7"])
def test_a_gpu_that_is_not_there_is_an_error_and_auto_falls_back(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 0)
    path = write_model(tmp_path / "m.onnx")
    assert "expected to run on" in refusal(path, device)
    model = OnnxEmbedder(path, device="auto")
    assert model.provider == "CPUExecutionProvider"
    assert any("computed on the CPU" in note for note in model.notes)


def test_a_gpu_whose_libraries_are_missing_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is built without CUDA")
    monkeypatch.setattr("zoo.inference.providers.count_gpus", lambda: 1)
    path = write_model(tmp_path / "m.onnx")
    model = OnnxEmbedder(path, device="auto")
    if model.provider == "CUDAExecutionProvider":
        pytest.skip("a GPU is there")
    assert "could not load CUDAExecutionProvider" in refusal(path, "cuda")
    assert any("could not load" in note for note in model.notes)


def test_damaged_facts_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.metadata_props.add(key="zoo", value=json.dumps({"nothing": 1}))
    onnx.save(model, path)
    assert "metadata of" in refusal(path)


def test_the_real_model_embeds_and_needs_no_torch(shared: Path) -> None:
    code = (
        "import sys; from zoo.inference.session import OnnxEmbedder; import numpy as np;"
        f"m = OnnxEmbedder({str(shared / 'models/mobilefacenet.onnx')!r}, device='cpu');"
        "print(m(np.zeros((3, 112, 112, 3), np.uint8)).shape,"
        "[n for n in ('torch', 'timm', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 128) []" and done.stderr == ""
