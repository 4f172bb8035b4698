"""The arithmetic that a graph applies to its input first: read from the file's bytes as the `onnx` package reads it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.inference.first_steps import first_steps


def saved(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, npt.NDArray[np.generic]]) -> Path:
    """A model of `nodes`, from "input" to "embedding", whose initialisers are `constants`."""
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 4, 4])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 48])
    flat = helper.make_node("Flatten", [nodes[-1].output[0] if nodes else "input"], ["embedding"])
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    onnx.save(helper.make_model(helper.make_graph([*nodes, flat], "g", [picture], [embedding], weights)), path)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("as_node", [False, True])
def test_subtraction_and_scaling_are_told_and_composed(tmp_path: Path, dtype: type, as_node: bool) -> None:
    constants = {"mean": np.array(127.5, dtype), "scale": np.array([0.0078125], dtype)}
    nodes = [helper.make_node("Sub", ["input", "mean"], ["a"]), helper.make_node("Mul", ["a", "scale"], ["b"])]
    if as_node:
        values = {name: numpy_helper.from_array(array) for name, array in constants.items()}
        nodes = [helper.make_node("Constant", [], [name], value=value) for name, value in values.items()] + nodes
    text, factor, shift = first_steps(saved(tmp_path / "m.onnx", nodes, {} if as_node else constants), "input")
    assert text == "− 127.5, × 0.0078125"
    x = np.linspace(0, 255, 5)
    assert np.allclose(x * factor + shift, (x - 127.5) * 0.0078125)


def test_a_batch_norm_on_the_pixels_counts_by_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale, offset, mean, variance = (rng.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    node = helper.make_node("BatchNormalization", ["input", "s", "o", "m", "v"], ["a"], epsilon=1e-5)
    path = saved(tmp_path / "m.onnx", [node], {"s": scale, "o": offset, "m": mean, "v": variance})
    text, factor, shift = first_steps(path, "input")
    assert text == "batch norm"
    assert np.allclose(100 * factor + shift, (100 - mean) / np.sqrt(variance + 1e-5) * scale + offset, rtol=1e-5)


def test_a_graph_that_begins_with_something_else_has_no_steps(tmp_path: Path) -> None:
    text, factor, shift = first_steps(saved(tmp_path / "m.onnx", [], {}), "input")
    assert (text, factor.tolist(), shift.tolist()) == ("", [1.0], [0.0])


def test_a_constant_of_a_whole_picture_is_unknown(tmp_path: Path) -> None:
    node = helper.make_node("Sub", ["input", "mean"], ["a"])
    path = saved(tmp_path / "m.onnx", [node], {"mean": np.zeros((3, 4, 4), np.float32)})
    text, _, shift = first_steps(path, "input")
    assert text == "− a constant"
    assert np.isnan(shift).all()
