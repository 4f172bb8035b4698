"""Takes in an ONNX file that others exported: its embedding alone, from RGB planes of float32."""

import math
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, compose, helper, shape_inference

from zoo.errors import InputError
from zoo.inference.convention import choose_output
from zoo.inference.metadata import facts_text
from zoo.modelinfo import InputSpec
from zoo.published.catalogue import Convention

KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)
"""What an image input may hold."""
THEIRS = "theirs/"
"""The prefix of every name in the file as it was."""


def wrapped(proto: onnx.ModelProto, taken: Convention, name: str) -> tuple[onnx.ModelProto, InputSpec]:
    """The graph within our contract, and the input that it expects.

    The contract is one float32 input `input` (batch, 3, H, W) in RGB, and one float32 output `embedding` (batch, dim).
    What is added is exact: the order of the channels, a transposition, a cast. The scaling of `taken` stays outside, in
    the InputSpec. InputError, with the file's `name`, for one that zoo wrote, and for one without a single image input
    or a single embedding.
    """
    if facts_text(proto) is not None:
        raise InputError(f"expected a model of another project, found {name}, which zoo wrote; use it as it is")
    image, shape, kind = image_input(proto, name)
    try:
        output, _ = choose_output(Path(name), output_sizes(proto))
    except InputError as error:
        raise InputError(f"{str(error).partition(';')[0]}; cut the others off") from None
    last = shape[3] == 3 and shape[1] != 3
    height, width = shape[1:3] if last else shape[2:4]
    spec = InputSpec(size=(height or 112, width or 112), mean=taken.mean, std=taken.std)
    if kind == TensorProto.UINT8 and (spec.mean, spec.std) != (0, 1):
        raise InputError(f"expected whole numbers from 0 to 255 for {name}, found {spec.scaling} by --as {taken.name}")
    theirs = compose.add_prefix(proto, THEIRS)
    bgr = taken.channel_order == "BGR"
    steps: list[tuple[str, dict[str, Any], list[str]]] = [("Gather", {"axis": 1}, ["colours"])] if bgr else []
    steps += [("Transpose", {"perm": [0, 2, 3, 1]}, [])] if last else []
    steps += [("Cast", {"to": kind}, [])] if kind != TensorProto.FLOAT else []
    colours = helper.make_tensor("colours", TensorProto.INT64, [3], [2, 1, 0])
    before, value = [helper.make_node("Constant", [], ["colours"], value=colours)] if bgr else [], "input"
    for index, (operator, options, more) in enumerate(steps):
        before.append(helper.make_node(operator, [value, *more], [f"step{index}"], **options))
        value = f"step{index}"
    before.append(helper.make_node("Identity", [value], [THEIRS + image]))
    after = [
        helper.make_node("Flatten", [THEIRS + output], ["flat"], axis=1),
        helper.make_node("Cast", ["flat"], ["embedding"], to=TensorProto.FLOAT),
    ]
    graph = theirs.graph
    nodes = [*before, *graph.node, *after]
    weights = {tensor.name for tensor in graph.initializer}
    constants = [value for value in graph.input if value.name in weights]  # as files before IR version 4 list them
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    batch = shape[0] or "batch"
    size = [batch, 3, *spec.size]
    graph.input.extend([helper.make_tensor_value_info("input", TensorProto.FLOAT, size), *constants])
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, "dim"]))
    return theirs, spec


def image_input(proto: onnx.ModelProto, name: str) -> tuple[str, list[int], int]:
    """(name, shape with 0 where it is free, element type) of the only input; InputError for another kind of model."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inputs]
    kinds = [value.type.tensor_type.elem_type for value in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]) or kinds[0] not in KINDS:
        found = ", ".join(f"{value.name} {shape}" for value, shape in zip(inputs, shapes, strict=True))
        raise InputError(
            f"expected one image input (batch, 3, height, width) or (batch, height, width, 3) in {name}, found"
            f" {found or 'none'}; a model that takes landmarks as well does not fit"
        )
    return str(inputs[0].name), shapes[0], kinds[0]


def output_sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """How many numbers each output has for a picture, as far as the graph tells; the field's 512 where it does not."""
    outputs = shape_inference.infer_shapes(proto).graph.output
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:] for value in outputs}
    return {str(name): math.prod(shape) or 512 for name, shape in shapes.items()}
