"""Takes in a model that others trained: from their file to a folder that every command takes like a run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zoo.backbones import blueprint_of, create_backbone, save_timm
from zoo.errors import InputError
from zoo.files import new_folder
from zoo.inference.metadata import load_proto, set_facts, write_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo, Origin
from zoo.published.catalogue import Convention, Published, catalogue
from zoo.published.find import Found, find
from zoo.published.layouts import Mapped, map_tensors, recognise
from zoo.published.onnx_file import wrapped
from zoo.published.read import read_tensors


@dataclass(frozen=True)
class Adopted:
    """What was made of a published model."""

    folder: Path
    info: ModelInfo
    known: Published | None
    """The entry of the catalogue that it is; None where nothing tells."""


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
    layout, _ = recognise(tensors)
    taken = agreed(found.known, convention, layout)
    mapped, leftovers = map_tensors(tensors, taken)
    model = build(mapped)
    built = blueprint_of(model)
    spec = InputSpec(size=built.image_size, mean=taken.mean, std=taken.std)
    info = replace(
        facts(found, taken, spec, built.embedding_dim, leftovers),
        backbone=built.backbone,
        neck=built.neck,
        stem=built.stem,
    )
    with new_folder(folder):
        save_timm(model, folder, asdict(info))
    return Adopted(folder, info, found.known)


def adopt_onnx(found: Found, folder: Path, taken: Convention) -> Adopted:
    """Writes model.onnx within our contract, which states its input; InputError where it gives no embedding."""
    proto, spec = wrapped(load_proto(found.path, weights=True), taken, found.path.name)
    with new_folder(folder):
        set_facts(proto, facts(found, taken, spec, 1))
        file = folder / "model.onnx"
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
    ours = not mapped.architecture.startswith("edgenext")
    stem = "face" if ours else "stock"
    model = create_backbone(mapped.architecture, dim, neck="native", stem=stem, image_size=mapped.image_size).eval()
    require_same_names({name: tuple(t.shape) for name, t in model.state_dict().items()}, mapped)
    model.load_state_dict(mapped.tensors)
    with torch.inference_mode():
        embeddings = model(torch.linspace(-1, 1, 2 * 3 * 112 * 112).reshape(2, 3, 112, 112))
    if not bool(embeddings.isfinite().all()):
        raise InputError(f"expected finite embeddings of {mapped.architecture}, found others; fetch the file again")
    return model


def require_same_names(wanted: dict[str, tuple[int, ...]], mapped: Mapped) -> None:
    """InputError unless the mapped tensors are those of the architecture, naming the first three that are not."""
    given = {name: tuple(tensor.shape) for name, tensor in mapped.tensors.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise InputError(
            f"expected the tensors of {mapped.architecture}, found others in {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; the checkpoint is of another architecture"
        )


def facts(found: Found, taken: Convention, spec: InputSpec, dim: int, leftovers: Sequence[str] = ()) -> ModelInfo:
    """What is known of an adopted model: its input after the colours were folded, and where it comes from."""
    known, convention = found.known, f"{taken.name} ({taken.source})"
    origin = Origin(found.path.name, found.name, found.sha256, convention, leftovers=tuple(leftovers))
    if known is not None:
        told = {name: getattr(known, name) for name in ("name", "authors", "paper", "stated", "stated_from")}
        terms, data = known.weights_license, known.data
        told |= {
            "license": str(terms),
            "license_link": terms.link,
            "data_license": data.license,
            "consent": data.consent,
        }
        origin = replace(origin, **told)
    return ModelInfo(
        embedding_dim=dim,
        input=spec,
        backbone=known.backbone if known is not None else "",
        training_set=known.data.name if known is not None else "",
        license=origin.license,
        origin=origin,
    )
