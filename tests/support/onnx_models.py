"""A tiny embedder as an ONNX file, in all the shapes that other people write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIM = 5


def write_model(
    path: Path,
    shape: tuple[object, ...] = ("batch", 3, 112, 112),
    kind: int = TensorProto.FLOAT,
    outputs: int = 1,
    seed: int = 0,
    reshape_to_one: bool = False,
) -> Path:
    """A linear embedder: the mean over 2-D positions of each channel, times a matrix (3, DIM)."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    weights = [
        numpy_helper.from_array(np.random.default_rng(seed).normal(size=(3, DIM)).astype(dtype), "w"),
        numpy_helper.from_array(np.array(axes, np.int64), "axes"),
        numpy_helper.from_array(np.array([1, 3], np.int64), "one"),
    ]
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0)]
    if reshape_to_one:
        nodes.append(helper.make_node("Reshape", ["mean", "one"], ["row"]))
    nodes.append(helper.make_node("MatMul", ["row" if reshape_to_one else "mean", "w"], ["embedding"]))
    results = [helper.make_tensor_value_info("embedding", kind, ["n", DIM])]
    for index in range(1, outputs):
        nodes.append(helper.make_node("Identity", ["embedding"], [f"copy{index}"]))
        results.append(helper.make_tensor_value_info(f"copy{index}", kind, ["n", DIM]))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path
