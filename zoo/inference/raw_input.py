"""A model file with its preprocessing in front: a GPU then gets crops as they are, a quarter of the bytes."""

from pathlib import Path

import numpy as np

from zoo.inference.metadata import load_proto
from zoo.modelinfo import InputSpec

CROPS = "zoo_crops"
"""The name of the new input."""
LARGEST = 2**31 - 1
"""Bytes of a model that can be handed over in memory."""


def with_raw_input(path: Path, spec: InputSpec, channels_last: bool) -> bytes | None:
    """The model of one input in `path`, for RGB uint8 crops (batch, H, W, 3); None where the file is too large.

    It computes what `InputSpec.to_input` does, in float32, and converts that to the type of the input.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = load_proto(path, weights=True)
    graph, weights = model.graph, {tensor.name for tensor in model.graph.initializer}
    node = next(value for value in graph.input if value.name not in weights)
    mean, std = (np.broadcast_to(np.array(scale, np.float32), 3).reshape(1, 1, 1, 3) for scale in (spec.mean, spec.std))
    order = np.array([2, 1, 0] if spec.channel_order == "BGR" else [0, 1, 2])
    graph.initializer.extend(
        numpy_helper.from_array(array, f"{CROPS}_{name}")
        for name, array in (("order", order), ("mean", mean), ("std", std))
    )
    planes = [0, 1, 2, 3] if channels_last else [0, 3, 1, 2]
    before = [
        helper.make_node("Cast", [CROPS], [f"{CROPS}_1"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{CROPS}_1", f"{CROPS}_order"], [f"{CROPS}_2"], axis=3),
        helper.make_node("Sub", [f"{CROPS}_2", f"{CROPS}_mean"], [f"{CROPS}_3"]),
        helper.make_node("Div", [f"{CROPS}_3", f"{CROPS}_std"], [f"{CROPS}_4"]),
        helper.make_node("Transpose", [f"{CROPS}_4"], [f"{CROPS}_5"], perm=planes),
        helper.make_node("Cast", [f"{CROPS}_5"], [node.name], to=node.type.tensor_type.elem_type),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    batch = node.type.tensor_type.shape.dim[0]
    shape = [batch.dim_value or batch.dim_param or "batch", *spec.size, 3]
    graph.input.remove(node)
    graph.input.insert(0, helper.make_tensor_value_info(CROPS, TensorProto.UINT8, shape))
    return model.SerializeToString() if model.ByteSize() < LARGEST else None
