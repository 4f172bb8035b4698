"""What an ONNX face model holds, ours or a stranger's, and what is suspicious about it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from zoo.errors import InputError
from zoo.evaluate.session import METADATA_KEY, REFUSALS, OnnxEmbedder
from zoo.export import parity
from zoo.export.variants import total_bytes
from zoo.spec import ModelInfo

BGR_NORM_RATIO = 1.02
"""A face embedding is longer the more of a face the model sees; longer by this with swapped colours is suspicious."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    """Numbers where the size is fixed, names where it is dynamic, "?" where nothing is said."""


@dataclass(frozen=True)
class Inspection:
    """Everything that the file tells, and what follows from it."""

    file: str
    bytes: int
    producer: str
    opset: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    operators: dict[str, int]
    """How often each operator occurs, the most frequent first."""
    weights: dict[str, int]
    """How many weights there are of each type."""
    normalisation: str
    """What the input is, stated by the file or guessed from the graph."""
    facts: dict[str, Any] | None
    """ModelInfo, where zoo wrote the file."""
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))


def inspect(path: str | Path) -> Inspection:
    """Reads and tries the file. InputError for what is no ONNX model; what is merely odd becomes a warning."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected an ONNX model at {path}, found no such file; check the path")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        raise InputError(f"expected an ONNX model at {path}, found another kind of file") from None
    if not proto.graph.node or not proto.graph.output:
        raise InputError(f"expected an ONNX model at {path}, found a file without a graph")
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = tuple(_port(value) for value in proto.graph.input if value.name not in weights)
    outputs = tuple(_port(value) for value in proto.graph.output)
    counts: Counter[str] = Counter()
    constants = [a.t for n in proto.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    for tensor in (*proto.graph.initializer, *constants):
        counts[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += int(np.prod(tensor.dims, dtype=np.int64))
    text = next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)
    facts = None if text is None else ModelInfo.from_json(text)
    scaled = scales_its_input(proto)
    return Inspection(
        file=str(path),
        bytes=total_bytes(path),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        opset={entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        inputs=inputs,
        outputs=outputs,
        parameters=sum(counts.values()),
        operators=dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        weights=dict(counts.most_common()),
        normalisation=normalisation(facts, scaled),
        facts=None if facts is None else json.loads(facts.to_json()),
        warnings=tuple(warnings(path, inputs, outputs, facts, scaled)),
    )


def scales_its_input(proto: onnx.ModelProto) -> bool:
    """Whether the graph itself subtracts or multiplies before its first convolution, as MXNet's exports do."""
    for node in proto.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            return False
        if node.op_type in ("Sub", "Mul", "Div", "BatchNormalization"):
            return True
    return False


def normalisation(facts: ModelInfo | None, scaled: bool) -> str:
    """The input's meaning in words."""
    if facts is not None:
        spec = facts.input
        return f"{spec.channel_order}, (x − {spec.mean:g}) / {spec.std:g}, stated by the file"
    if scaled:
        return "0 to 255, guessed: the graph scales its input itself"
    return "RGB, (x − 127.5) / 127.5, guessed: the graph does not scale its input"


def warnings(
    path: Path, inputs: tuple[Port, ...], outputs: tuple[Port, ...], facts: ModelInfo | None, scaled: bool
) -> list[str]:
    """What a user should look at, each in one sentence."""
    found = []
    if len(inputs) != 1:
        found.append(f"{len(inputs)} inputs, an embedder has one")
    if len(outputs) != 1:
        found.append(f"{len(outputs)} outputs, an embedder has one: {', '.join(port.name for port in outputs)}")
    for port in inputs:
        if len(port.shape) != 4:
            found.append(f"the input {port.name} has {len(port.shape)} dimensions, a picture has 4")
        elif isinstance(port.shape[0], int):
            found.append(f"the batch is fixed at {port.shape[0]}: pictures are embedded {port.shape[0]} at a time")
        if len(port.shape) == 4 and port.shape[3] == 3:
            found.append("the channels come last, most programs put them second")
    if len(inputs) != 1 or len(outputs) != 1:
        return found
    if facts is None and scaled:
        found.append("zoo would scale its input a second time")
    try:
        embedder = OnnxEmbedder(path, device="cpu", threads=1)
    except InputError as error:
        return [*found, str(error)]
    found += [note for note in embedder.notes if "fixed batch" not in note and "does not state its input" not in note]
    if facts is not None and facts.embedding_dim != embedder.embedding_dim:
        found.append(f"the file states {facts.embedding_dim} dimensions, the graph gives {embedder.embedding_dim}")
    return [*found, *_tried(embedder)]


def _tried(embedder: OnnxEmbedder) -> list[str]:
    """What only running the model tells: values that are not finite, unit length, swapped colours."""
    size = embedder.input.size
    if min(size) < 16 or max(size) > 512:
        return []
    crops = parity.crops_for_parity(size, 16)
    try:
        straight, swapped = embedder(crops), embedder(np.ascontiguousarray(crops[..., ::-1]))
    except REFUSALS as error:
        return [f"it fails on pictures: {str(error).splitlines()[0]}"]
    if not np.isfinite(straight).all():
        return ["some embeddings are not finite"]
    lengths, others = (np.linalg.norm(embeddings, axis=1) for embeddings in (straight, swapped))
    if np.allclose(lengths, 1, atol=1e-3):
        return [
            "the embeddings have length 1: norms tell nothing of picture quality, and swapped colours cannot be seen"
        ]
    if np.median(others / np.where(lengths > 0, lengths, np.inf)) > BGR_NORM_RATIO:
        swap = "BGR" if embedder.input.channel_order == "RGB" else "RGB"
        return [f"embeddings are longer with red and blue swapped: the model may have been trained on {swap}"]
    return []


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or "?"
        for dim in tensor.shape.dim
    )
    return Port(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape)
