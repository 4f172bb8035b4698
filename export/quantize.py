"""float16 and int8 variants of a proven float32 model, with the names of the layers that stay in float32."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from zoo.errors import InputError
from zoo.export import parity
from zoo.export.parity import Embeddings, Inputs
from zoo.messages import log, quiet

HALF_LIMIT = 65504.0 / 2  #: float16 ends at 65504; half is reserved for crops with larger values than those inspected
QUANTISED = ("Conv", "Gemm", "MatMul", "Add")  #: Computed in int8; what is neither here nor in CARRIED stays in float32
REMOVABLE = ("Relu", "Clip")  #: Absorbed by the range of the tensor before them: what they cut off needs no codes
CARRIED = (*REMOVABLE, "MaxPool", "GlobalAveragePool")
"""The operators that pass int8 through, so that two quantised layers need no float32 between them."""
METHODS = {name.lower(): CalibrationMethod[name] for name in ("Percentile", "Entropy")}
"""How a tensor's range is found: all but 0.001 % of values, or the least loss of information. Both are tried."""
GOOD_COSINE = 0.999  #: The mean cosine to float32 at which the search for nodes to keep in float32 stops
CHUNK = 8  #: Crops per calibration batch: all their intermediate tensors are in memory


@dataclass(frozen=True)
class Conversion:
    precision: str  #: float16 or int8
    kept_in_float32: tuple[str, ...] = ()  #: The layers that were not converted, by name
    why: str = ""  #: The reason, where there are such layers
    method: str = ""  #: int8: how ranges were found, a key of METHODS
    mean_cosine_by_method: dict[str, float] = field(default_factory=dict)  #: int8: to float32, for each method
    calibration: str = ""  #: int8: the crops that the ranges were found on
    to_float32: dict[str, Any] = field(default_factory=dict)  #: Its parity with the float32 file, once it is measured

    def facts(self) -> dict[str, Any]:
        """The facts for the file's metadata and for export.json."""
        own = asdict(self) if self.precision == "int8" else {"why": self.why, "to_float32": self.to_float32}
        return {**own, "precision": self.precision, "kept_in_float32": list(self.kept_in_float32)}


class Variant(NamedTuple):
    proto: ModelProto
    conversion: Conversion


def to_float16(proto: ModelProto, inputs: Inputs) -> Variant:
    """`proto` in float16 with float32 input and output; layers whose values exceed float16's range stay in float32.

    The values are those on `inputs` (count, 3, H, W). A node stays where an input, an output, or the square that a norm
    sums internally, exceeds half of float16's range.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    largest = largest_magnitudes(proto, inputs)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    weights = {name: float(np.abs(array).max(initial=0)) for name, array in arrays.items() if array.dtype.kind == "f"}
    kept = []
    for node in proto.graph.node:
        # inputs count too: a value beyond the range would be read as infinity
        reached = max(largest.get(name, weights.get(name, 0.0)) for name in (*node.input, *node.output))
        if node.op_type in ("ReduceL2", "ReduceSumSquare"):
            reached = max(reached, reached**2)
        if reached > HALF_LIMIT:
            kept.append((node, reached))
    copy = ModelProto()
    copy.CopyFrom(proto)
    with quiet():
        half = convert_float_to_float16(copy, keep_io_types=True, node_block_list=[node.name for node, _ in kept])
        tidy_casts(half)
        OnnxModel(half).topological_sort(is_deterministic=True)  # the casts were appended at the end
    why = f"their values reach {max(reached for _, reached in kept):.0f}" if kept else ""
    return Variant(half, Conversion("float16", tuple(layer_name(node, proto) for node, _ in kept), why))


def tidy_casts(proto: ModelProto) -> None:
    """Corrects the casts that onnxruntime's converter leaves around float32 nodes, in place.

    It passes values between two of them, or to the output, through float16, where they become infinite; it casts
    float32 weights to float32; and it repeats a cast for each input that reads it.
    """
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    casts: dict[str, tuple[str, int]] = {}
    nodes = []
    for node in proto.graph.node:
        if node.op_type == "Cast":
            if node.output[0] in casts:
                continue
            casts[node.output[0]] = (node.input[0], node.attribute[0].i)
        nodes.append(node)
    for node in nodes:
        for index, name in enumerate(node.input):
            source, to = casts.get(name, ("", 0))
            if to == single and types.get(source) == single:
                node.input[index] = source
            elif to == single and casts.get(source, ("", 0))[1] == half:
                node.input[index] = casts[source][0]
            elif to == half and node.op_type == "Cast" and node.attribute[0].i == single:  # before the embedding
                node.input[index] = source
    while True:
        read = {value.name for value in proto.graph.output} | {name for node in nodes for name in node.input}
        needed = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
        if len(needed) == len(nodes):
            break
        nodes = needed
    del proto.graph.node[:], proto.graph.value_info[:]  # which calls the weights that stay in float32 float16
    proto.graph.node.extend(nodes)


def to_int8(proto: ModelProto, inputs: Inputs, calibration: str = "") -> Variant:
    """`proto` in static int8 (QDQ): per-channel 7-bit signed weights, unsigned 8-bit activations, float32 in and out.

    Weights have seven bits because AVX2 without VNNI adds two products in 16 bits and saturates with eight. Ranges are
    found on the first three quarters of `inputs` (count, 3, H, W) by each of METHODS. The last quarter, which no
    range has seen, decides by the cosine to float32 which method is best and which layers stay in float32.
    `calibration` names the crops, for the metadata. InputError for fewer than 4 inputs.
    """
    if len(inputs) < 4:
        raise InputError(f"expected at least 4 crops to calibrate on, found {len(inputs)}; give more")
    split = len(inputs) - max(1, len(inputs) // 4)
    held_out = inputs[split:]
    expected = _run(proto, held_out)
    found, scores = {}, {}
    for method in METHODS:
        found[method] = tensor_ranges(proto, inputs[:split], METHODS[method], [*QUANTISED, *CARRIED])
        scores[method] = _mean_cosine(expected, _run(quantised(proto, found[method]), held_out))
        log.info("int8, ranges by %s: mean cosine to float32 %.5f", method, scores[method])
    method = max(scores, key=lambda name: scores[name])
    ranges, score = found[method], scores[method]
    kept: list[str] = []
    if score < GOOD_COSINE:
        kept, score = sensitive_nodes(proto, ranges, held_out, expected, score)
    layers = tuple(layer_name(node, proto) for name in kept for node in proto.graph.node if node.name == name)
    why = f"mean cosine {scores[method]:.4f} → {score:.4f} on held-out crops" if kept else ""
    tried = {name: round(value, 5) for name, value in scores.items()}
    return Variant(quantised(proto, ranges, exclude=kept), Conversion("int8", layers, why, method, tried, calibration))


def sensitive_nodes(
    proto: ModelProto, ranges: Any, inputs: Inputs, expected: Embeddings, score: float
) -> tuple[list[str], float]:
    """The nodes to keep in float32, and the mean cosine then: the fewest for GOOD_COSINE, else those that gain most.

    Each node is quantised alone to measure its cost; then the 1, 2, 4, … costliest, a quarter of all at most, are kept.
    """
    candidates = [node.name for node in proto.graph.node if node.op_type in QUANTISED]
    alone = {name: _mean_cosine(expected, _run(quantised(proto, ranges, [name]), inputs)) for name in candidates}
    ranked = sorted(candidates, key=lambda name: alone[name])
    best: tuple[list[str], float] = ([], score)
    for count in (2**power for power in range(max(1, len(ranked) // 4).bit_length())):
        kept = ranked[:count]
        reached = _mean_cosine(expected, _run(quantised(proto, ranges, exclude=kept), inputs))
        log.info("int8, %d of %d layers kept in float32: mean cosine %.5f", count, len(ranked), reached)
        if reached > best[1]:
            best = (kept, reached)
        if reached >= GOOD_COSINE:
            break
    return best


def quantised(proto: ModelProto, ranges: Any, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> ModelProto:
    """`proto` with QDQ pairs around its QUANTISED nodes: all of them, `only` those named, or all but `exclude`."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    if only:  # a single layer is judged together with the activation that it absorbs
        only = [*only, *(node.name for node in proto.graph.node if node.op_type in REMOVABLE)]
    with quiet():
        types = {"weight_qType": QuantType.QInt8, "activation_qType": QuantType.QUInt8, "tensors_range": ranges}
        nodes = {"nodes_to_quantize": list(only), "nodes_to_exclude": list(exclude)}
        nodes["op_types_to_quantize"] = [*QUANTISED, *CARRIED]
        quantizer = QDQQuantizer(copy, per_channel=True, reduce_range=True, extra_options={}, **types, **nodes)
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # the pairs were appended at the end
    result: ModelProto = quantizer.model.model
    return result


def tensor_ranges(
    proto: ModelProto, inputs: Inputs, method: CalibrationMethod, operators: Sequence[str] | None = None
) -> Any:
    """The range of every tensor of these operators, or of all, on `inputs` by `method`: onnxruntime's TensorsData."""
    name = proto.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder, quiet():
        path, augmented = Path(folder) / "model.onnx", Path(folder) / "augmented.onnx"
        path.write_bytes(proto.SerializeToString())
        calibrator = create_calibrator(path, operators, str(augmented), calibrate_method=method)
        calibrator.infer_session = parity.session(augmented, optimise=False)
        for start in range(0, len(inputs), CHUNK):  # a reader for each, as all batches of a reader stay in memory
            batches = iter([{name: np.ascontiguousarray(inputs[start : start + CHUNK])}, None])
            calibrator.collect_data(SimpleNamespace(get_next=batches.__next__))
        return calibrator.compute_data()


def largest_magnitudes(proto: ModelProto, inputs: Inputs) -> dict[str, float]:
    """The largest absolute value of every float tensor of the graph on `inputs`: {tensor name: value}."""
    ranges = tensor_ranges(proto, inputs, CalibrationMethod.MinMax)
    return {name: float(np.abs(found.range_value).max()) for name, found in ranges.items()}


def layer_name(node: onnx.NodeProto, proto: ModelProto) -> str:
    """A readable name: the module whose weight the node has, e.g. body.layer1.0.conv1, else operator and node name."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    named = [name for name in node.input if name in weights and name.endswith(".weight")]
    return named[0].removesuffix(".weight") if named else f"{node.op_type} {node.name}"


def _run(proto: ModelProto, inputs: Inputs) -> Embeddings:
    session = parity.session(proto.SerializeToString(), optimise=True)
    return np.concatenate([parity.run_session(session, inputs[i : i + 16]) for i in range(0, len(inputs), 16)])


def _mean_cosine(ours: Embeddings, theirs: Embeddings) -> float:
    return float(parity.row_cosines(ours, theirs).mean())
