"""Half and eighth: a proven float32 file turned into float16 or int8, with what had to stay in float32 by name."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from zoo.errors import InputError
from zoo.export import parity
from zoo.export.parity import Embeddings, Inputs

HALF_LIMIT = 65504.0 / 2
"""float16 ends at 65504; a factor of two is kept for pictures brighter than those that were looked at."""
QUANTISED = ("Conv", "Gemm", "MatMul", "Add")
"""The operators that int8 computes; what is neither here nor in CARRIED stays in float32 between them."""
REMOVABLE = ("Relu", "Clip")
"""Those that vanish into the range of the tensor before them: what is cut off needs no codes."""
CARRIED = (*REMOVABLE, "MaxPool", "GlobalAveragePool")
"""Those that take int8 as it comes, so that two quantised layers need no float32 between them."""
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
"""How a tensor's range is found: all of it, the range that loses the least information, or all but 0.001 %."""
GOOD_COSINE = 0.999
"""The mean cosine to float32 at which the search for nodes to keep in float32 stops."""
CHUNK = 8
"""Crops that calibration holds at a time: every intermediate tensor of them is in memory."""


@dataclass(frozen=True)
class Variant:
    """A model in a lower precision, and how it was made."""

    proto: onnx.ModelProto
    precision: str
    """float16 or int8."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the metadata: method, calibration, layers kept in float32 and why."""


def to_half(proto: onnx.ModelProto, inputs: Inputs) -> Variant:
    """`proto` in float16 with float32 input and output; layers whose values leave float16's range stay in float32.

    The range is looked at on `inputs` (count, 3, H, W): a node is kept where an input, an output, or the
    square that a norm sums inside, exceeds half of what float16 holds.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    largest = largest_magnitudes(proto, inputs)
    weights = {tensor.name: _magnitude(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
    kept = []
    for node in proto.graph.node:
        # an input counts too: whoever reads a value beyond the range would read infinity
        reached = max(largest.get(name, weights.get(name, 0.0)) for name in (*node.input, *node.output))
        if node.op_type in ("ReduceL2", "ReduceSumSquare"):
            reached = max(reached, reached**2)
        if reached > HALF_LIMIT:
            kept.append((node, reached))
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    with _silent():
        half = convert_float_to_float16(copy, keep_io_types=True, node_block_list=[node.name for node, _ in kept])
        tidy_casts(half)
        OnnxModel(half).topological_sort(is_deterministic=True)  # the casts were appended at the end
    return Variant(
        half,
        "float16",
        {
            "precision": "float16",
            "kept_in_float32": [layer_name(node, proto) for node, _ in kept],
            "why": f"their values reach {max(reached for _, reached in kept):.0f}" if kept else "",
        },
    )


def tidy_casts(proto: onnx.ModelProto) -> None:
    """Mends what the converter leaves around float32 nodes, in place.

    It sends the values between two of them through float16, where they become infinite; it casts float32 weights to
    float32; and it adds a node once for each input that reads it.
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
    outputs = {value.name for value in proto.graph.output}
    for node in nodes:
        for index, name in enumerate(node.input):
            source, to = casts.get(name, ("", 0))
            if to == single and types.get(source) == single:
                node.input[index] = source
            elif to == single and casts.get(source, ("", 0))[1] == half:
                node.input[index] = casts[source][0]
    while True:
        read = outputs | {name for node in nodes for name in node.input}
        needed = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
        if len(needed) == len(nodes):
            break
        nodes = needed
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def to_int8(
    proto: onnx.ModelProto,
    inputs: Inputs,
    methods: Sequence[str] = ("percentile", "entropy"),
    calibration: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Variant:
    """`proto` in static int8 (QDQ): per-channel 7-bit signed weights, unsigned 8-bit activations, float32 in and out.

    Seven bits of weight, because AVX2 without VNNI adds two products in 16 bits and saturates with eight. The ranges
    are found on the first three quarters of `inputs` (count, 3, H, W) by each of `methods`; the best of them, and the
    layers to keep in float32, are chosen by the cosine to float32 on the last quarter, which no range has seen.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise InputError(
            f"expected calibration methods among {', '.join(METHODS)}, found {', '.join(unknown) or 'none'}"
        )
    if len(inputs) < 4:
        raise InputError(f"expected at least 4 crops to calibrate on, found {len(inputs)}; give more")
    split = len(inputs) - max(1, len(inputs) // 4)
    held_out = inputs[split:]
    expected = _run(proto, held_out)
    best: tuple[float, str, Any] | None = None
    scores = {}
    for method in methods:
        ranges = tensor_ranges(proto, inputs[:split], method)
        scores[method] = _mean_cosine(expected, _run(quantised(proto, ranges), held_out))
        say(f"int8, ranges by {method}: mean cosine to float32 {scores[method]:.5f}")
        if best is None or scores[method] > best[0]:
            best = (scores[method], method, ranges)
    assert best is not None
    score, method, ranges = best
    kept: list[str] = []
    if score < GOOD_COSINE:
        kept, score = sensitive_nodes(proto, ranges, held_out, expected, score, say)
    nodes = {node.name: node for node in proto.graph.node}
    return Variant(
        quantised(proto, ranges, exclude=kept),
        "int8",
        {
            "precision": "int8",
            "method": method,
            "mean_cosine_by_method": {name: round(value, 5) for name, value in scores.items()},
            "calibration": calibration,
            "kept_in_float32": [layer_name(nodes[name], proto) for name in kept],
            "why": f"mean cosine {scores[method]:.4f} → {score:.4f} on held-out crops" if kept else "",
        },
    )


def sensitive_nodes(
    proto: onnx.ModelProto,
    ranges: Any,
    inputs: Inputs,
    expected: Embeddings,
    score: float,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[str], float]:
    """The nodes to keep in float32, and the mean cosine then: the fewest for GOOD_COSINE, else those that buy the most.

    Each node is quantised alone to see what it costs; then the 1, 2, 4, … costliest, at most a quarter of all, are kept
    in float32 until the aim is reached.
    """
    candidates = [node.name for node in proto.graph.node if node.op_type in QUANTISED]
    cost = {
        name: 1 - _mean_cosine(expected, _run(quantised(proto, ranges, only=[name]), inputs)) for name in candidates
    }
    ranked = sorted(candidates, key=lambda name: -cost[name])
    best: tuple[list[str], float] = ([], score)
    count = 1
    while count <= max(1, len(ranked) // 4):
        kept = ranked[:count]
        reached = _mean_cosine(expected, _run(quantised(proto, ranges, exclude=kept), inputs))
        say(f"int8, {count} of {len(ranked)} layers kept in float32: mean cosine {reached:.5f}")
        if reached > best[1]:
            best = (kept, reached)
        if reached >= GOOD_COSINE:
            break
        count *= 2
    return best


def quantised(
    proto: onnx.ModelProto, ranges: Any, only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> onnx.ModelProto:
    """`proto` with QDQ pairs around its QUANTISED nodes: all of them, `only` those named, or all but `exclude`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if only:  # a layer alone is judged with the activation that vanishes into it
        only = [*only, *(node.name for node in proto.graph.node if node.op_type in REMOVABLE)]
    with _silent():
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(exclude),
            op_types_to_quantize=[*QUANTISED, *CARRIED],
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # the pairs were appended at the end
    result: onnx.ModelProto = quantizer.model.model
    return result


def tensor_ranges(proto: onnx.ModelProto, inputs: Inputs, method: str) -> Any:
    """The range of every tensor that quantisation needs, found on `inputs` by `method`: onnxruntime's TensorsData."""
    name = proto.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder, _silent():
        path = Path(folder) / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        augmented = Path(folder) / "augmented.onnx"
        calibrator = create_calibrator(
            path, [*QUANTISED, *CARRIED], augmented_model_path=str(augmented), calibrate_method=METHODS[method]
        )
        calibrator.infer_session = parity.session(augmented, optimise=False)
        for start in range(0, len(inputs), CHUNK):
            calibrator.collect_data(_Chunk({name: np.ascontiguousarray(inputs[start : start + CHUNK])}))
        return calibrator.compute_data()


class _Chunk(CalibrationDataReader):  # type: ignore[misc]
    """One batch for onnxruntime's calibrators, which keep everything they are given in memory."""

    def __init__(self, feed: dict[str, Inputs]) -> None:
        self._feeds = iter([feed])

    def get_next(self) -> dict[str, Inputs] | None:
        return next(self._feeds, None)


def largest_magnitudes(proto: onnx.ModelProto, inputs: Inputs) -> dict[str, float]:
    """The largest absolute value that every float tensor of the graph takes on `inputs`, by the tensor's name."""
    exposed = onnx.shape_inference.infer_shapes(proto)
    known = {value.name for value in exposed.graph.output}
    floats = [
        value
        for value in exposed.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name not in known
    ]
    exposed.graph.output.extend(floats)
    session = parity.session(exposed.SerializeToString(), optimise=False)
    names = [output.name for output in session.get_outputs()]
    largest = dict.fromkeys(names, 0.0)
    for start in range(0, len(inputs), CHUNK):
        values = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(inputs[start : start + CHUNK])})
        for name, value in zip(names, values, strict=True):
            largest[name] = max(largest[name], _magnitude(value))
    return largest


def layer_name(node: onnx.NodeProto, proto: onnx.ModelProto) -> str:
    """What a person calls a node: the module whose weight it has, e.g. body.layer1.0.conv1, else operator and name."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    named = [name for name in node.input if name in weights and name.endswith(".weight")]
    return named[0].removesuffix(".weight") if named else f"{node.op_type} {node.name}"


def _magnitude(values: npt.NDArray[Any]) -> float:
    return float(np.abs(values).max(initial=0)) if values.dtype.kind == "f" else 0.0


def _run(proto: onnx.ModelProto, inputs: Inputs) -> Embeddings:
    session = parity.session(proto.SerializeToString(), optimise=True)
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: np.ascontiguousarray(inputs[i : i + 16])})[0] for i in range(0, len(inputs), 16)]
    return np.concatenate(parts)


def _mean_cosine(ours: Embeddings, theirs: Embeddings) -> float:
    return float(parity.row_cosines(ours, theirs).mean())


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps onnxruntime's tools from printing into the user's terminal; what fails is raised."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
