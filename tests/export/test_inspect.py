"""Inspection of ONNX files: what they contain, and warnings of what makes embedders fail."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper as make

from tests.support.exporting import Flat, write_flat
from zoo.errors import InputError
from zoo.export.inspect import inspect_onnx
from zoo.export.onnx import to_proto


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flat(tmp_path_factory.mktemp("inspect") / "model.onnx")


def third_party(folder: Path, change: object = None) -> Path:
    """The graph without our facts, changed as a third party might have it."""
    proto = to_proto(Flat().eval(), (112, 112))
    if change is not None:
        change(proto)  # type: ignore[operator]
    path = folder / "third_party.onnx"
    onnx.save(proto, path)
    return path


def test_our_file_is_described_in_full_and_without_a_warning(ours: Path) -> None:
    found = inspect_onnx(ours)
    assert found.facts is not None and found.facts.backbone == "flat"
    assert found.opset == {"ai.onnx": 18}
    assert found.inputs[0].shape == ("batch", 3, 112, 112) and found.outputs[0].shape == ("batch", 7)
    assert found.weights["float"] == 3 * 7 * 16 * 16 + 7
    assert not [w for w in found.warnings if "swapped" not in w], "random weights may prefer any colour"


def fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def two_outputs(proto: onnx.ModelProto) -> None:
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "y"
    proto.graph.node.append(make.make_node("Neg", ["y"], ["z"]))
    proto.graph.output.append(make.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))


def scaled(proto: onnx.ModelProto) -> None:
    half = make.make_tensor("half", onnx.TensorProto.FLOAT, [], [1 / 128])
    proto.graph.initializer.append(half)
    proto.graph.node[0].input[0] = "halved"
    proto.graph.node.insert(0, make.make_node("Mul", ["input", "half"], ["halved"], name="scale"))


def unit_norm(proto: onnx.ModelProto) -> None:
    last = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["long" if name == last else name for name in node.output]
    proto.graph.node.append(make.make_node("LpNormalization", ["long"], [last], axis=1, p=2))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (fixed_batch, "batch is fixed at 1"),
        (two_outputs, "among the 2 outputs"),
        (unit_norm, "norm 1"),
    ],
)
def test_a_third_partys_oddity_becomes_a_warning(change: object, warning: str, tmp_path: Path) -> None:
    assert [w for w in inspect_onnx(third_party(tmp_path, change)).warnings if warning in w]
    assert not [w for w in inspect_onnx(third_party(tmp_path)).warnings if warning in w]


def shifted_and_scaled(proto: onnx.ModelProto) -> None:
    """As insightface's older files begin."""
    scaled(proto)
    proto.graph.initializer.append(make.make_tensor("middle", onnx.TensorProto.FLOAT, [1], [127.5]))
    proto.graph.node[0].input[0] = "shifted"
    proto.graph.node.insert(0, make.make_node("Sub", ["input", "middle"], ["shifted"], name="shift"))


def test_normalisation_is_guessed_from_the_graph(tmp_path: Path) -> None:
    assert "(x − 127.5) / 127.5, decided: " in inspect_onnx(third_party(tmp_path)).normalisation
    assert "itself (− 127.5, × 0.0078125)" in inspect_onnx(third_party(tmp_path, shifted_and_scaled)).normalisation


def test_nothing_is_decided_of_what_is_no_embedder(tmp_path: Path) -> None:
    assert inspect_onnx(third_party(tmp_path, two_outputs)).normalisation.startswith("unknown")


def test_weights_beside_a_third_partys_graph_count_and_are_missed_when_they_are_gone(tmp_path: Path) -> None:
    proto = to_proto(Flat().eval(), (112, 112))
    path = tmp_path / "third_party.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert inspect_onnx(path).bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    (tmp_path / "weights.bin").unlink()
    found = inspect_onnx(path)
    assert found.bytes == path.stat().st_size and found.parameters > 0
    assert [warning for warning in found.warnings if "cannot load it" in warning]


def test_damaged_facts_are_a_warning(ours: Path, tmp_path: Path) -> None:
    proto = onnx.load(ours)
    proto.metadata_props[0].value = "[]"
    onnx.save(proto, tmp_path / "damaged.onnx")
    found = inspect_onnx(tmp_path / "damaged.onnx")
    assert found.facts is None and [warning for warning in found.warnings if "damaged" in warning]


def test_a_real_models_colour_order_is_suspected_only_when_it_is_swapped(shared: Path, tmp_path: Path) -> None:
    real = shared / "models" / "mobilefacenet.onnx"
    assert not [w for w in inspect_onnx(real).warnings if "swapped" in w]
    proto = onnx.load(real)
    first = next(node for node in proto.graph.node if "input" in node.input)
    weight = next(t for t in proto.graph.initializer if t.name == first.input[1])
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[:, ::-1].copy(), weight.name))
    onnx.save(proto, tmp_path / "swapped.onnx")
    assert [w for w in inspect_onnx(tmp_path / "swapped.onnx").warnings if "trained on BGR" in w]


@pytest.mark.parametrize("content", [b"", b"a text\n", None])
def test_what_is_no_model_is_told_in_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="expected an ONNX model"):
        inspect_onnx(path)
