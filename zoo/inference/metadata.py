"""ONNX files as files: parsed, hashed, and with the facts that zoo keeps in their metadata.

The one place where an ONNX file is parsed. `onnx` is imported when that happens, so that inference does without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.files import atomic_path, sha256
from zoo.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "zoo"
"""The one key of an ONNX file's metadata that is ours; its value is ModelInfo.to_json()."""


def load_proto(path: str | Path, weights: bool = False) -> onnx.ModelProto:
    """The parsed file; weights that lie in files of their own are left there unless `weights` asks for them.

    InputError for what is no ONNX file, and for one that is not there.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not Path(path).is_file():
        raise InputError(f"expected an ONNX model at {path}, found no such file; check the path")
    try:
        return onnx.load(str(path), load_external_data=weights)
    except DecodeError as error:
        raise InputError(f"expected an ONNX model at {path}, found another kind of file ({error})") from None


def facts_text(proto: onnx.ModelProto) -> str | None:
    """The text under our key of a file's metadata; None where there is none."""
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
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def set_facts(proto: onnx.ModelProto, info: ModelInfo) -> None:
    """Replaces the facts in a parsed file's metadata, in place; other keys stay."""
    kept = [(entry.key, entry.value) for entry in proto.metadata_props if entry.key != METADATA_KEY]
    del proto.metadata_props[:]
    for key, value in [*kept, (METADATA_KEY, info.to_json())]:
        proto.metadata_props.add(key=key, value=value)


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


def external_files(proto: onnx.ModelProto) -> list[str]:
    """The files that hold weights of a parsed file, as it names them: relative to its folder, sorted, each once.

    The names are the file's own and not checked: one from a third party may lead out of the folder.
    """
    return sorted({name for tensor in tensors_of(proto) if (name := external_location(tensor)) is not None})


def external_location(tensor: onnx.TensorProto) -> str | None:
    """The file that a tensor's numbers lie in, as the tensor names it; None where they lie in the model itself."""
    if tensor.data_location != tensor.EXTERNAL and not tensor.external_data:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def tensors_of(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in an ONNX message: initialisers, attributes, sub-graphs, functions, training graphs."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            yield from tensors_of(part)
