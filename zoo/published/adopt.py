"""Takes in a model that others trained: from their file to a folder that every command takes like a run."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, shape_inference
from torch import nn

from zoo.backbones import blueprint_of, create_backbone, save_timm
from zoo.errors import InputError
from zoo.files import atomic_path, new_folder
from zoo.inference.convention import choose_output
from zoo.inference.metadata import facts_text, load_proto, set_facts, write_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo, Origin
from zoo.published.catalogue import Convention, Found, Published, catalogue, find
from zoo.published.layouts import Mapped, map_tensors, recognise
from zoo.published.read import read_tensors

KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)  #: What an image input may hold
THEIRS = "theirs/"  #: The prefix of every name in the file as it was


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
    outputs = shape_inference.infer_shapes(proto).graph.output
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:] for value in outputs}
    sizes = {str(name): math.prod(shape) or 512 for name, shape in shapes.items()}  # the field's 512 where it is free
    try:
        output, _ = choose_output(Path(name), sizes)
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
    flat = helper.make_node("Flatten", [THEIRS + output], ["flat"], axis=1)
    cast = helper.make_node("Cast", ["flat"], ["embedding"], to=TensorProto.FLOAT)
    graph = theirs.graph
    nodes = [*before, *graph.node, flat, cast]
    weights = {tensor.name for tensor in graph.initializer}
    constants = [value for value in graph.input if value.name in weights]  # as files before IR version 4 list them
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    batch = shape[0] or "batch"
    graph.input.extend([helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, *spec.size]), *constants])
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
        wanted = "(batch, 3, height, width) or (batch, height, width, 3)"
        told = f"found {found or 'none'}; a model that takes landmarks as well does not fit"
        raise InputError(f"expected one image input {wanted} in {name}, {told}")
    return str(inputs[0].name), shapes[0], kinds[0]


@dataclass(frozen=True)
class Adopted:
    folder: Path
    info: ModelInfo
    known: Published | None  #: The entry of the catalogue that it is; None where nothing tells


def adopt(source: str | Path, folder: str | Path, convention: str | None = None) -> Adopted:
    """Makes a model folder of what others published: in timm's layout, or with model.onnx alone of an ONNX file.

    `source` is a checkpoint or an ONNX file, a name of the catalogue, or owner/name:FILE on the Hub. `convention` says
    whose it is where neither its hash nor its name does (`zoo list conventions`): colours, scaling, epsilon and heads
    are never guessed. No code of a pickle is ever run. InputError where the file is not what it should be, holds
    parts that no architecture of ours has, or where nothing tells its convention; nothing is written then.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder for the model, found {folder}; choose another one")
    found = find(source)
    if found.path.suffix == ".onnx":
        return adopt_onnx(found, folder, agreed(found.known, convention, "onnx"))
    tensors = read_tensors(found.path)
    taken = agreed(found.known, convention, recognise(tensors)[0])
    mapped, leftovers = map_tensors(tensors, taken)
    model = build(mapped)
    built = blueprint_of(model)
    spec = InputSpec(size=built.image_size, mean=taken.mean, std=taken.std)
    info = facts(found, taken, spec, built.embedding_dim, leftovers)
    info = replace(info, backbone=built.backbone, neck=built.neck, stem=built.stem)
    with new_folder(folder):
        save_timm(model, folder, asdict(info))
    return Adopted(folder, info, found.known)


def adopt_onnx(found: Found, folder: Path, taken: Convention) -> Adopted:
    """Writes model.onnx within our contract, which states its input; InputError where it gives no embedding."""
    proto, spec = wrapped(load_proto(found.path, weights=True), taken, found.path.name)
    with new_folder(folder), atomic_path(folder / "model.onnx") as file:
        set_facts(proto, facts(found, taken, spec, 1))
        file.write_bytes(proto.SerializeToString(deterministic=True))
        embedder = OnnxEmbedder(file, device="cpu")
        embeddings = embedder(np.random.default_rng(0).integers(0, 256, (2, *spec.size, 3)).astype(np.uint8))
        if not np.isfinite(embeddings).all() or embedder.embedding_dim < 2:
            raise InputError(f"expected finite embeddings of {found.path.name}, found others; fetch the file again")
        info = facts(found, taken, spec, embedder.embedding_dim)
        write_model_info(file, info)
    return Adopted(folder, info, found.known)


def agreed(known: Published | None, name: str | None, layout: str) -> Convention:
    """The convention of a checkpoint with these keys; InputError where nothing tells it, or two sources disagree."""
    if known is not None and name not in (None, known.convention):
        raise InputError(f"expected no --as, or {known.convention}: the file is {known.name}, found --as {name}")
    return catalogue().convention(known.convention if known is not None else name, layout)


def build(mapped: Mapped) -> nn.Module:
    """The architecture with the mapped weights, in evaluation mode; InputError, naming three, where they do not fit."""
    dim = len(mapped.tensors[mapped.last])
    stem = "stock" if mapped.architecture.startswith("edgenext") else "face"
    model = create_backbone(mapped.architecture, dim, neck="native", stem=stem, image_size=mapped.image_size).eval()
    wanted, given = ({name: tuple(t.shape) for name, t in d.items()} for d in (model.state_dict(), mapped.tensors))
    if wrong := sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)):
        found = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        expected = f"expected the tensors of {mapped.architecture}, found others in {found}"
        raise InputError(f"{expected}; the checkpoint is of another architecture")
    model.load_state_dict(mapped.tensors)
    with torch.inference_mode():
        embeddings = model(torch.linspace(-1, 1, 2 * 3 * 112 * 112).reshape(2, 3, 112, 112))
    if not bool(embeddings.isfinite().all()):
        raise InputError(f"expected finite embeddings of {mapped.architecture}, found others; fetch the file again")
    return model


def facts(found: Found, taken: Convention, spec: InputSpec, dim: int, leftovers: Sequence[str] = ()) -> ModelInfo:
    """What is known of an adopted model: its input after the colours were folded, and where it comes from."""
    known, convention = found.known, f"{taken.name} ({taken.source})"
    origin = Origin(found.path.name, found.name, found.sha256, convention, leftovers=tuple(leftovers))
    if known is not None:
        told = {name: getattr(known, name) for name in ("name", "authors", "paper", "stated", "stated_from")}
        terms, data = known.weights_license, known.data
        legal: dict[str, Any] = {"license": str(terms), "license_link": terms.link, "data_license": data.license}
        origin = replace(origin, **told, **legal, consent=data.consent)
    backbone, pictures = (known.backbone, known.data.name) if known is not None else ("", "")
    return ModelInfo(dim, spec, backbone, training_set=pictures, license=origin.license, origin=origin)
