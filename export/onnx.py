"""Torch to ONNX: one input, one output, a dynamic batch, and proof that the file computes the same."""

import contextlib
import copy
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxslim
import torch
from torch import nn

from zoo.backbones import FlatNeck
from zoo.errors import InputError, explained, first_line
from zoo.export import parity
from zoo.export.options import Options
from zoo.files import atomic_path, temporary_folder
from zoo.inference.metadata import external_files, load_proto, messages_in, set_facts
from zoo.messages import quiet
from zoo.modelinfo import Crops, ModelInfo

OPSET = Options.opset  #: The ONNX operator set of an export, 18; docs/export.md lists what runs it, as soak tests try
OPSETS = range(18, 24)  #: The operator sets to choose from
INPUT, OUTPUT, DYNAMIC = "input", "embedding", {0: torch.export.Dim("batch")}
SINGLE_FILE_BYTES = 2**31 - 2**20  #: protobuf's limit is 2 GiB; larger weights go into a file beside the graph


def write_onnx(
    model: nn.Module,
    path: str | Path,
    info: ModelInfo,
    opset: int = OPSET,
    crops: Crops | None = None,
    *,
    batches: Sequence[int] = parity.BATCHES,
    single_file_bytes: int = SINGLE_FILE_BYTES,
) -> ModelInfo:
    """Writes `model` to `path`; returns `info` with the measured parity, which the file's metadata has as well.

    The graph has one input `input`, float32 (batch, 3, H, W) with H and W of `info.input.size`, and one output
    `embedding`, float32 (batch, dim), not normalised; the batch is dynamic. Batch norms are folded where arithmetic
    allows (not in front of a zero-padded convolution). Parity is measured on `crops`, RGB uint8 (count, H, W, 3), at
    `batches`; synthetic faces by default. Weights above `single_file_bytes` go to `path`.data.

    ParityError where the file computes something else than torch; InputError for an opset out of range or an operator
    that ONNX lacks. In both cases nothing is written. The same weights give the same bytes on one machine.
    """
    path = Path(path)
    if opset not in OPSETS:
        raise InputError(f"expected an opset from {OPSETS.start} to {OPSETS.stop - 1}, found {opset}")
    if crops is None:
        crops = parity.crops_for_parity(info.input.size)
    original = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    inputs = info.input.to_input(crops)

    def reference(batch: parity.Inputs) -> parity.Embeddings:
        with torch.inference_mode():
            embeddings: parity.Embeddings = original(torch.from_numpy(batch)).numpy()
        if not np.isfinite(embeddings).all():
            why = "its weights are damaged or its training diverged: export an earlier run"
            raise InputError(f"expected a model with finite embeddings, found NaN or infinity in torch itself; {why}")
        return embeddings

    reference(inputs[:1])
    proto = to_proto(original, info.input.size, opset)
    with draft_folder(path) as draft:
        save(proto, draft / path.name, single_file_bytes)
        onnx.checker.check_model(str(draft / path.name), full_check=True)
        compared = parity.measure(reference, draft / path.name, inputs, batches)
        if failed := next((one for one in compared if not one.within), None):
            raise parity.parity_error(failed, path.name, rounding(original, inputs[: failed.batch]))
        info = replace(info, parity={**info.parity, **parity.as_record(compared)})
        set_facts(proto := load_proto(draft / path.name), info)
        publish(proto, draft, path)
    return info


def to_proto(model: nn.Module, size: tuple[int, int], opset: int = OPSET, plain: bool = False) -> onnx.ModelProto:
    """The graph of a model in evaluation mode on the CPU, only arithmetic; `plain` spells timm's attention out."""
    folded = fold_neck(copy.deepcopy(model))
    for module in folded.modules() if plain else ():
        module.fused_attn = False  # type: ignore[assignment]
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_shapes": (DYNAMIC,)}
    options: dict[str, Any] = {"dynamo": True, "opset_version": opset, "external_data": False, "verbose": False}
    with quiet():
        try:
            # two: the exporter treats a batch of one as a constant
            program = torch.onnx.export(folded, (torch.zeros(2, 3, *size),), **names, **options)
        except torch.onnx.OnnxExporterError as error:
            if "only 4D query" in str(error) and not plain:  # torch translates no attention over five dimensions
                return to_proto(model, size, opset, plain=True)
            raise InputError(unsupported(error, folded, size)) from error
    assert program is not None
    proto = program.model_proto
    if weight_bytes(proto) < SINGLE_FILE_BYTES:  # constant arithmetic folded: transformers lose a sixth of their nodes
        proto = min(proto, onnxslim.slim(proto), key=lambda one: len(one.graph.node))
    keep_zero_padding(proto.graph)
    proto.ir_version = onnx.helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True)
    strip(proto)
    require_contract(proto, size)
    return proto


def keep_zero_padding(graph: onnx.GraphProto) -> None:
    """Puts max(x, x) between a Pad and the MaxPool after it, in place.

    ONNX Runtime 1.31 takes such a Pad of zeros for the MaxPool's own, which pads with −∞: −1 for 0 at the border.
    """
    pads = {output for node in graph.node if node.op_type == "Pad" for output in node.output}
    for index in range(len(graph.node) - 1, -1, -1):
        pool = graph.node[index]
        if pool.op_type == "MaxPool" and pool.input[0] in pads:
            padded, kept = pool.input[0], f"{pool.input[0]}_kept"
            pool.input[0] = kept
            graph.node.insert(index, onnx.helper.make_node("Max", [padded, padded], [kept]))


def fold_neck(model: nn.Module) -> nn.Module:
    """Folds the batch norm before a flat neck's FC into the FC, in place; the exporter does not fold across Flatten."""
    for neck in [module for module in model.modules() if isinstance(module, FlatNeck)]:
        norm, linear = neck[0], neck[3]
        assert isinstance(norm, nn.BatchNorm2d) and isinstance(linear, nn.Linear)
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        positions = linear.in_features // norm.num_features
        weight = linear.weight.double()
        with torch.no_grad():
            linear.bias.copy_(linear.bias.double() + weight @ shift.repeat_interleave(positions))
            linear.weight.copy_(weight * scale.repeat_interleave(positions))
        neck[0] = nn.Identity()
    return model


def strip(proto: onnx.ModelProto) -> None:
    """Removes doc strings and metadata from a model and all within, where the exporter writes paths and traces."""
    for message in list(messages_in(proto)):
        for name in {"doc_string", "metadata_props"}.intersection(message.DESCRIPTOR.fields_by_name):
            message.ClearField(name)


def require_contract(proto: onnx.ModelProto, size: tuple[int, int]) -> None:
    """InputError unless the graph is float32 (batch, 3, H, W) → (batch, dim) with a dynamic batch."""
    ports = [*proto.graph.input, *proto.graph.output]
    shapes = [[dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in ports]
    good = len(proto.graph.input) == len(proto.graph.output) == 1 and shapes[0][1:] == [3, *size]
    if not (good and len(shapes[1]) == 2 and isinstance(shapes[0][0], str) and shapes[1][0] == shapes[0][0]):
        wanted = f"a model (batch, 3, {size[0]}, {size[1]}) → (batch, dim) with a dynamic batch"
        found = f"{' → '.join(map(str, shapes))}; the backbone fixes its batch or has other outputs"
        raise InputError(f"expected {wanted}, found {found}")


def unsupported(error: BaseException, model: nn.Module, size: tuple[int, int]) -> str:
    """The operator that the exporter could not translate, and its layer, in one sentence."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    named = re.search(r"OpOverload\(op='(?P<op>[^']+)', overload='(?P<overload>[^']+)'\)", str(root))
    if named is None:
        return f"ONNX cannot express this model: {first_line(root)}"
    program = torch.export.export(model, (torch.zeros(2, 3, *size),), dynamic_shapes=(DYNAMIC,))
    target = f"{named['op'].replace('::', '.')}.{named['overload']}"
    layers = {
        list(node.meta["nn_module_stack"].values())[-1][0] or "the model itself"
        for node in program.graph.nodes
        if str(node.target) == target and node.meta.get("nn_module_stack")
    }
    used = f"{named['op']}, used in {', '.join(sorted(layers))}" if layers else named["op"]
    return f"ONNX has no counterpart of the operator {used}; replace that layer by one that ONNX can express"


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, removed at the end; InputError for what cannot be written."""
    final = path.parent.parent / path.name if path.parent.name.startswith(f".{path.name}.") else path
    with explained(f"cannot write {final}", OSError, advice="choose another folder"), temporary_folder(path) as draft:
        yield draft


def save(proto: onnx.ModelProto, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Writes a graph; its weights go to `path`.data where they exceed `single_file_bytes`."""
    if weight_bytes(proto) < single_file_bytes:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    else:
        onnx.save_model(proto, str(path), save_as_external_data=True, location=f"{path.name}.data")


def weight_bytes(proto: onnx.ModelProto) -> int:
    """The size of the weights in bytes, without serialising them: a graph above 2 GiB cannot be serialised."""
    return sum(tensor.ByteSize() for tensor in proto.graph.initializer)


def publish(proto: onnx.ModelProto, draft: Path, path: Path) -> None:
    """Moves a proven draft to its place: the weights first, so that the graph never names a missing file."""
    weights = draft / f"{path.name}.data"
    target = path.parent / weights.name
    if weights.exists():
        with atomic_path(target) as temporary:
            os.replace(weights, temporary)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    if not weights.exists() and not external_files(proto):
        target.unlink(missing_ok=True)  # left by an earlier, larger model of this name


def rounding(model: nn.Module, inputs: parity.Inputs) -> parity.Differences | None:
    """How far torch's own float32 is from its float64; None where the model does not compute in float64."""
    try:
        with torch.inference_mode():
            exact = copy.deepcopy(model).double()(torch.from_numpy(inputs).double())
            return parity.differences(exact.numpy(), model(torch.from_numpy(inputs)).numpy())
    except RuntimeError:
        return None
