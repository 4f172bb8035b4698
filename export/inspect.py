"""What an ONNX face model contains, from zoo or a third party, and what looks wrong with it."""

import contextlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from zoo.errors import InputError, first_line
from zoo.export import parity
from zoo.inference.metadata import external_files, facts_text, load_proto, parse_facts
from zoo.inference.session import REFUSALS, OnnxEmbedder
from zoo.modelinfo import ModelInfo

BGR_NORM_RATIO = 1.02  #: A clearer face has a larger norm; one so much larger with swapped colours is suspicious


@dataclass(frozen=True)
class Port:
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]  #: Numbers where the size is fixed, names where it is dynamic, "?" where not stated


@dataclass(frozen=True)
class Inspection:
    """The content of a file, and the warnings that follow from it."""

    file: str
    bytes: int
    producer: str
    opset: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    operators: dict[str, int]  #: The number of nodes of each operator, the most frequent first
    weights: dict[str, int]  #: The number of weights of each type
    normalisation: str  #: The meaning of the input, as the file states it or guessed from the graph
    facts: ModelInfo | None  #: What zoo knows of the model, where it wrote the file
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """What `zoo inspect --json` prints."""
        return json.dumps(asdict(self))


def inspect_onnx(path: str | Path) -> Inspection:
    """Reads the file and runs it on synthetic faces. InputError where it is no ONNX model; all else gives warnings."""
    path = Path(path)
    proto = load_proto(path)
    if not proto.graph.node or not proto.graph.output:
        raise InputError(f"expected an ONNX model at {path}, found a file without a graph")
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = tuple(_port(value) for value in proto.graph.input if value.name not in weights)
    counts: Counter[str] = Counter()
    constants = [a.t for n in proto.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    for tensor in (*proto.graph.initializer, *constants):
        counts[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += int(np.prod(tensor.dims, dtype=np.int64))
    facts = None
    with contextlib.suppress(InputError):  # running the model reports it, among the warnings
        facts = parse_facts(facts_text(proto), path)
    embedder, told = None, []
    try:
        embedder = OnnxEmbedder(path, device="cpu", threads=1)
        told = warnings(inputs, facts, embedder)
    except InputError as error:
        told.append(str(error))
    beside = [path.parent / name for name in external_files(proto)]
    size = path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    opset = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    operators = dict(Counter(node.op_type for node in proto.graph.node).most_common())
    graph = inputs, tuple(map(_port, proto.graph.output)), sum(counts.values()), operators, dict(counts.most_common())
    return Inspection(str(path), size, producer, opset, *graph, normalisation(facts, embedder), facts, tuple(told))


def normalisation(facts: ModelInfo | None, embedder: OnnxEmbedder | None) -> str:
    """The meaning of the input as text; only decided for what opens as an `embedder`."""
    if facts is not None:
        return f"{facts.input.channel_order}, {facts.input.scaling}, stated by the file"
    if embedder is None:
        return "unknown: the file does not open as an embedder"
    return f"{embedder.input.channel_order}, {embedder.input.scaling}, decided: {embedder.why_input}"


def warnings(inputs: tuple[Port, ...], facts: ModelInfo | None, embedder: OnnxEmbedder) -> list[str]:
    """What a user should check, each in one sentence."""
    found = []
    for port in inputs:
        if isinstance(port.shape[0], int):
            found.append(f"the batch is fixed at {port.shape[0]}: pictures are embedded {port.shape[0]} at a time")
        if port.shape[3] == 3:
            found.append("the channels come last, most programs put them second")
    known = (embedder.why_input, "fixed batch")
    found += [note for note in embedder.notes if not any(one and one in note for one in known)]
    if facts is not None and facts.embedding_dim != embedder.embedding_dim:
        found.append(f"the file states {facts.embedding_dim} dimensions, the graph gives {embedder.embedding_dim}")
    return [*found, *_tried(embedder, colours=facts is None)]


def _tried(embedder: OnnxEmbedder, colours: bool) -> list[str]:
    """Warnings that need the model to run: values that are not finite, a norm of 1, swapped `colours`."""
    size = embedder.input.size
    if min(size) < 16 or max(size) > 512:
        return []
    crops = parity.crops_for_parity(size, 16)
    try:
        straight, swapped = embedder(crops), embedder(np.ascontiguousarray(crops[..., ::-1]))
    except REFUSALS as error:
        return [f"it fails on pictures: {first_line(error)}"]
    if not np.isfinite(straight).all():
        return ["some embeddings are not finite"]
    norms, others = (np.linalg.norm(embeddings, axis=1) for embeddings in (straight, swapped))
    if np.allclose(norms, 1, atol=1e-3):
        return ["the embeddings have norm 1: norms tell nothing of picture quality, and swapped colours go unnoticed"]
    if colours and np.median(others / np.where(norms > 0, norms, np.inf)) > BGR_NORM_RATIO:
        return ["norms are larger with red and blue swapped: the model may have been trained on BGR; then add --bgr"]
    return []


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in tensor.shape.dim)
    return Port(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape)
