"""ONNX files of others in every form become one: RGB planes in, the embedding alone out, the input stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import InputError
from zoo.inference.metadata import read_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec
from zoo.published.adopt import adopt

CROPS = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3), dtype=np.uint8)
FREE = ("n", 3, 16, 12)
FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def written(
    path: Path,
    shape: tuple[object, ...] = FREE,
    kind: int = FLOAT,
    outputs: tuple[str, ...] = ("emb",),
    image: str = "input",
    ir_version: int = 9,
) -> Path:
    """An embedder of 20 numbers that sees every colour and place, with as many of its outputs as are named."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(16 * 12 * 3, 20)).astype(np.float32) / 99, "one": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Cast", [image], ["x"], to=FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["raw"]),
        helper.make_node("Tanh", ["raw"], ["emb"]),
        helper.make_node("ReduceSum", ["emb", "one"], ["norm"], keepdims=1),
        helper.make_node("Neg", ["emb"], ["other"]),
    ]
    values = [helper.make_tensor_value_info(image, kind, shape)]
    if ir_version < 4:
        values += [helper.make_tensor_value_info("w", FLOAT, [16 * 12 * 3, 20])]
        values += [helper.make_tensor_value_info("one", TensorProto.INT64, [1])]
    results = [helper.make_tensor_value_info(name, FLOAT, [shape[0], 1 if name == "norm" else 20]) for name in outputs]
    tensors = [numpy_helper.from_array(tensor, name) for name, tensor in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", values, results, tensors), ir_version=ir_version)
    model.opset_import[0].version = 17
    onnx.save(model, path)
    return path


def embedded(path: Path, tensor: np.ndarray) -> np.ndarray:
    """The file's own answer through ONNX Runtime alone."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    single = session.get_inputs()[0].shape[0] == 1
    parts = [tensor[i : i + 1] for i in range(len(tensor))] if single else [tensor]
    return np.concatenate([session.run(["emb"], {name: np.ascontiguousarray(part)})[0] for part in parts])


NORMAL = (CROPS.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
FORMS: dict[str, tuple[dict[str, Any], str, np.ndarray]] = {
    "as insightface's": ({}, "insightface", NORMAL),
    "BGR and a norm beside it, as AdaFace's": ({"outputs": ("emb", "norm")}, "adaface", NORMAL[:, ::-1]),
    "one at a time": ({"shape": (1, 3, 16, 12)}, "edgeface", NORMAL),
    "channels last": ({"shape": ("n", 16, 12, 3)}, "insightface", NORMAL.transpose(0, 2, 3, 1)),
    "pixels, as SFace's": ({"image": "data"}, "sface", CROPS.transpose(0, 3, 1, 2).astype(np.float32)),
    "whole numbers": ({"kind": BYTE, "shape": ("n", 16, 12, 3)}, "sface", CROPS),
    "float16": ({"kind": HALF}, "lvface", NORMAL.astype(np.float16)),
    "old, its weights among the inputs": ({"ir_version": 3}, "adaface", NORMAL[:, ::-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_adopted_file_gives_its_own_embeddings_and_states_its_input(form: str, tmp_path: Path) -> None:
    options, convention, tensor = FORMS[form]
    path = written(tmp_path / "face.onnx", **options)
    adopted = adopt(path, tmp_path / "model", convention)
    embedder = OnnxEmbedder(adopted.folder / "model.onnx", device="cpu")
    np.testing.assert_array_equal(embedder(CROPS), embedded(path, tensor))
    assert embedder.info == adopted.info == read_model_info(adopted.folder / "model.onnx")
    assert embedder.input.channel_order == "RGB" and embedder.input.size == (16, 12) and embedder.embedding_dim == 20
    assert embedder.input.scaling == (InputSpec(mean=0.0, std=1.0) if convention == "sface" else InputSpec()).scaling
    session = embedder.session
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["input", "embedding"]
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    assert not [note for note in embedder.notes if "does not state" in note]
    onnx.checker.check_model(str(adopted.folder / "model.onnx"), full_check=True)


def test_another_order_of_colours_gives_other_embeddings(tmp_path: Path) -> None:
    path = written(tmp_path / "face.onnx")
    ours = [OnnxEmbedder(adopt(path, tmp_path / name, name).folder / "model.onnx") for name in ("adaface", "edgeface")]
    assert np.abs(ours[0](CROPS) - ours[1](CROPS)).max() > 0.01


@pytest.mark.parametrize(
    ("options", "convention", "message"),
    [
        ({}, None, r"expected --as, as nothing in the layout onnx tells whose it is\. insightface: RGB"),
        ({}, "magface", "no convention called 'magface' is known for the layout onnx"),
        (
            {"outputs": ("raw", "other")},
            "adaface",
            r"the 2 outputs of face\.onnx, found raw \(20\), other \(20\); cut the",
        ),
        (
            {"outputs": ("norm", "raw", "other")},
            "adaface",
            r"found norm \(1\), raw \(20\), other \(20\); cut the others off",
        ),
        ({"shape": ("n", 4, 16, 12)}, "adaface", r"one image input .* found input \[0, 4, 16, 12\]"),
        (
            {"kind": BYTE},
            "adaface",
            r"expected whole numbers from 0 to 255 .*found \(x − 127\.5\) / 127\.5 by --as adaf",
        ),
    ],
)
def test_what_is_not_told_or_no_embedder_is_refused_and_nothing_is_left(
    options: dict[str, Any], convention: str | None, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "face.onnx", **options)
    with pytest.raises(InputError, match=message):
        adopt(path, tmp_path / "model", convention)
    assert not (tmp_path / "model").exists()


def test_our_own_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    ours = adopt(written(tmp_path / "face.onnx"), tmp_path / "model", "insightface").folder / "model.onnx"
    with pytest.raises(InputError, match=r"found model\.onnx, which zoo wrote; use it as it is"):
        adopt(ours, tmp_path / "again", "insightface")
    (tmp_path / "text.onnx").write_text("no model at all")
    with pytest.raises(InputError, match="expected an ONNX model"):
        adopt(tmp_path / "text.onnx", tmp_path / "again", "insightface")
    assert not (tmp_path / "again").exists()
