"""Where a wrong export goes wrong: the first layer whose output the file does not reproduce."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from zoo.export import parity
from zoo.export.parity import Differences, Inputs
from zoo.inference.metadata import load_proto

ROWS = 2
"""Only the last crops of a batch have their intermediate values compared: those of 33 would not fit in memory."""
HELD = 256
"""Intermediate tensors, of one crop each, that ONNX Runtime returns at a time."""

Values = npt.NDArray[np.float32]


def diagnose(model: nn.Module, path: Path, inputs: Inputs) -> str:
    """Where the file at `path` deviates from `model` on `inputs` (batch, 3, H, W), as a clause of a sentence.

    Layers are identified by their values, not by name: a layer is reproduced where some tensor of the graph, computed
    without graph optimisation, has its shape and agrees within parity's tolerances. Exports fold layers into their
    neighbours, so the clause names the last layer that is reproduced and the one after it.
    """
    layers = layer_outputs(model, inputs)
    tensors = graph_tensors(path, inputs)
    reproduced = [
        index
        for index, (_, ours) in enumerate(layers)
        if any(theirs.shape == ours.shape and parity.agree(ours, theirs) for theirs in tensors)
    ]
    if not reproduced:
        return f"they differ from the first layer on, {layers[0][0]}"
    last = reproduced[-1]
    if last + 1 == len(layers):
        return f"they agree up to the last layer, {layers[last][0]}, and differ after it"
    return f"they agree up to the layer {layers[last][0]} and differ from {layers[last + 1][0]} on"


def rounding(model: nn.Module, inputs: Inputs) -> Differences | None:
    """How far torch's own float32 is from its float64; None where the model does not compute in float64."""
    try:
        with torch.inference_mode():
            exact = copy.deepcopy(model).double()(torch.from_numpy(inputs).double())
            return parity.differences(exact.numpy(), model(torch.from_numpy(inputs)).numpy())
    except RuntimeError:
        return None


def layer_outputs(model: nn.Module, inputs: Inputs) -> list[tuple[str, Values]]:
    """Name and output of every layer but the model itself, in the order of completion, for the last ROWS inputs."""
    outputs: list[tuple[str, Values]] = []

    def keep(name: str, module: nn.Module, arguments: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            outputs.append((name, output[-ROWS:].numpy().copy()))

    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in model.named_modules() if name]
    try:
        with torch.inference_mode():
            model(torch.from_numpy(inputs))
    finally:
        for handle in hooks:
            handle.remove()
    return outputs or [("the model itself", np.empty(0, np.float32))]


def graph_tensors(path: Path, inputs: Inputs) -> list[Values]:
    """Every float tensor that the graph at `path` computes, for the last ROWS inputs; needs a writable folder."""
    proto = onnx.shape_inference.infer_shapes(load_proto(path))
    ours = list(proto.graph.output)
    floats = [v for v in proto.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    found: list[Values] = []
    exposed = path.with_name(f"exposed-{path.name}")  # beside the weights that a large graph names
    step = max(1, HELD // len(inputs))
    for start in range(0, len(floats), step):
        del proto.graph.output[:]
        proto.graph.output.extend([*floats[start : start + step], *ours])
        exposed.write_bytes(proto.SerializeToString())
        session = parity.session(exposed, optimise=False)
        values = session.run(None, {session.get_inputs()[0].name: inputs})
        found += [np.array(value[-ROWS:]) for value in values[:-1] if value.ndim]
    exposed.unlink(missing_ok=True)
    return found
