"""ONNX files as files: parsed, hashed, and with the facts that zoo keeps in their metadata.

The one place where an ONNX file is parsed. `onnx` is imported when that happens, so that inference does without it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import InputError, explained
from zoo.files import sha256, write_bytes
from zoo.modelinfo import InputSpec, ModelInfo

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "zoo"  #: The one key of an ONNX file's metadata that is ours; its value is ModelInfo.to_json()


def load_proto(path: str | Path, weights: bool = False) -> "onnx.ModelProto":
    """The parsed file, external weights left out unless `weights`; InputError for no ONNX file and for none there."""
    import onnx
    from google.protobuf.message import DecodeError

    if not Path(path).is_file():
        raise InputError(f"expected an ONNX model at {path}, found no such file; check the path")
    with explained(f"expected an ONNX model at {path}, found another kind of file", DecodeError):
        return onnx.load(str(path), load_external_data=weights)


def facts_text(proto: "onnx.ModelProto") -> str | None:
    return next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)


def parse_facts(text: str | None, path: str | Path) -> ModelInfo | None:
    """The facts in that text; None where there is none. InputError, naming the file at `path`, for other content."""
    if text is None:
        return None
    try:
        return ModelInfo.from_json(text)
    except InputError as error:
        raise InputError(f"{error}; the metadata of {path} is damaged: export the model again") from None


def read_model_info(path: str | Path) -> ModelInfo | None:
    """The facts in an ONNX file's metadata; None where it holds none. InputError for what is no model."""
    return parse_facts(facts_text(load_proto(path)), path)


def write_model_info(path: str | Path, info: ModelInfo) -> None:
    """Replaces the facts in an ONNX file's metadata, atomically; graph, weights and other keys stay."""
    proto = load_proto(path)
    set_facts(proto, info)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def set_facts(proto: "onnx.ModelProto", info: ModelInfo) -> None:
    """Replaces the facts in a parsed file's metadata, in place; other keys stay."""
    from onnx.helper import set_model_props

    set_model_props(proto, {**{one.key: one.value for one in proto.metadata_props}, METADATA_KEY: info.to_json()})


def model_sha256(path: str | Path) -> str:
    """SHA-256 of an ONNX file's graph and weights without its metadata, external weight files included."""
    proto = load_proto(path)
    del proto.metadata_props[:]
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True))
    for name in external_files(proto):
        weights = Path(path).parent / name
        if not weights.is_file():
            raise InputError(f"expected the weights of {path} at {weights}, found no such file; copy both files")
        digest.update(bytes.fromhex(sha256(weights)))
    return digest.hexdigest()


def external_files(proto: "onnx.ModelProto") -> list[str]:
    """The files that hold weights of a parsed file, as it names them: relative to its folder, sorted, each once.

    The names are the file's own and not checked: one from a third party may lead out of the folder.
    """
    from onnx import TensorProto

    tensors = (one for one in messages_in(proto) if isinstance(one, TensorProto))
    outside = [one.external_data for one in tensors if one.external_data or one.data_location == one.EXTERNAL]
    return sorted({next((entry.value for entry in facts if entry.key == "location"), "") for facts in outside})


def messages_in(message: Any) -> Iterator[Any]:
    """A protobuf message and every one anywhere in it: nodes, attributes, sub-graphs, functions, training graphs."""
    from google.protobuf.message import Message

    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if isinstance(value, Message) else value:
                yield from messages_in(part)


CROPS = "zoo_crops"  #: The name of the new input
LARGEST = 2**31 - 1  #: Bytes of a model that can be handed over in memory


def with_raw_input(path: Path, spec: InputSpec, channels_last: bool) -> bytes | None:
    """The model in `path`, which begins with `spec.to_input` of RGB uint8 crops (batch, H, W, 3); None if too large."""
    from onnx import TensorProto, helper, numpy_helper

    model = load_proto(path, weights=True)
    graph, weights = model.graph, {tensor.name for tensor in model.graph.initializer}
    node = next(value for value in graph.input if value.name not in weights)
    mean, std = (np.broadcast_to(np.array(scale, np.float32), 3).reshape(1, 1, 1, 3) for scale in (spec.mean, spec.std))
    order = np.array([2, 1, 0] if spec.channel_order == "BGR" else [0, 1, 2])
    for name, array in (("order", order), ("mean", mean), ("std", std)):
        graph.initializer.append(numpy_helper.from_array(array, f"{CROPS}_{name}"))
    planes = [0, 1, 2, 3] if channels_last else [0, 3, 1, 2]
    before = [
        helper.make_node("Cast", [CROPS], [f"{CROPS}_1"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{CROPS}_1", f"{CROPS}_order"], [f"{CROPS}_2"], axis=3),
        helper.make_node("Sub", [f"{CROPS}_2", f"{CROPS}_mean"], [f"{CROPS}_3"]),
        helper.make_node("Div", [f"{CROPS}_3", f"{CROPS}_std"], [f"{CROPS}_4"]),
        helper.make_node("Transpose", [f"{CROPS}_4"], [f"{CROPS}_5"], perm=planes),
        helper.make_node("Cast", [f"{CROPS}_5"], [node.name], to=node.type.tensor_type.elem_type),
    ]
    for place, added in enumerate(before):
        graph.node.insert(place, added)
    batch = node.type.tensor_type.shape.dim[0]
    shape = [batch.dim_value or batch.dim_param or "batch", *spec.size, 3]
    graph.input.remove(node)
    graph.input.insert(0, helper.make_tensor_value_info(CROPS, TensorProto.UINT8, shape))
    return model.SerializeToString() if model.ByteSize() < LARGEST else None
