"""A model by name, ready to embed: `zoo.load`, `zoo.load_onnx`, and an embedder by either backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, closest
from zoo.resolve.kinds import CONFIG, KINDS, ONNX, WEIGHTS, Folder, Place
from zoo.runs import RUNS, newest_run, run_folders


def find_model(model: str | Path | None) -> Place:
    """The place of MODEL, not fetched yet; None is the newest run. InputError, with the closest names, for a miss."""
    if model is None:
        return Folder(newest_run())
    text = str(model)
    for kind in KINDS:
        place = kind.find(text)
        if place is not None:
            return place
    if Path(text).suffix == ".onnx":
        raise InputError(f"expected an ONNX model at {text}, found no such file{_similar(text)}; check the path")
    forms = ", ".join(kind.form for kind in KINDS)
    raise InputError(f"no model is called {text!r}{_similar(text)}. MODEL is one of: {forms}")


def newest_model() -> Place:
    """The newest run that has an ONNX file; InputError, with what to do, where there is none."""
    exported = [folder for folder in run_folders() if (folder / ONNX).is_file()]
    if not exported:
        raise InputError(
            f"expected a model, found no run under {RUNS}/ with a {ONNX}; pass --model with any ArcFace-style ONNX file"
            " or a model on the Hub, or make one: `zoo train resnet18` and `zoo export --onnx`"
        )
    return Folder(exported[-1])


def onnx_file(model: str | Path | None) -> Path:
    """The ONNX file of MODEL, fetched where it is on the Hub; None: that of the newest run that has one."""
    return (newest_model() if model is None else find_model(model)).onnx()


def torch_folder(model: str | Path | None) -> Path:
    """The folder of MODEL in timm's layout, fetched where it is on the Hub; None: the newest run."""
    return find_model(model).folder()


def _similar(text: str) -> str:
    """The runs and the neighbouring files whose names are close to a text, as a question."""
    path = Path(text)
    beside = [str(path.parent / file.name) for file in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    names = [*(folder.name for folder in run_folders()), *(str(folder) for folder in run_folders()), *beside]
    close = closest(text, names)
    return f"; did you mean {' or '.join(close)}?" if close else ""


if TYPE_CHECKING:
    from torch import nn

    from zoo.hub.pull import Pulled
    from zoo.inference.embed import FaceModel
    from zoo.inference.session import OnnxEmbedder

BACKENDS = ("onnx", "torch")


def load(model: str | Path) -> nn.Module:
    """The torch model that `model` names (see `zoo.resolve`), with its weights, in evaluation mode.

    x: float32 (batch, 3, H, W), RGB, (x − 127.5) / 127.5 → (batch, dim), not normalised. InputError for a model
    that is not there, is not what its hash says, or names an architecture or argument that is not known.
    """
    from zoo.backbones import load_timm

    return load_timm(torch_folder(model))


def check_pulled(pulled: Pulled) -> list[str]:
    """Opens what a pull brought, and says in a line for each form what it is; InputError where one does not work."""
    found = []
    if {CONFIG, WEIGHTS} <= set(pulled.files):
        from zoo.backbones import blueprint_of

        built = blueprint_of(load(pulled.folder))  # loading rejects what it does not know and what does not fit
        found.append(f"{built.backbone}, {built.embedding_dim} dimensions: the weights fit")
    if ONNX in pulled.files:
        embedder = load_onnx(pulled.folder, device="cpu")
        found.append(f"{ONNX} runs, {embedder.embedding_dim} dimensions")
    return found


def load_onnx(model: str | Path, **options: Any) -> OnnxEmbedder:
    """The embedder that `model` names (see `zoo.resolve`), without torch.

    RGB uint8 crops (batch, H, W, 3) → float32 (batch, dim), not normalised. `options` are OnnxEmbedder's (device,
    threads, input). InputError as for `load`.
    """
    from zoo.inference.session import OnnxEmbedder

    return OnnxEmbedder(onnx_file(model), **options)


def load_embedder(model: str | Path | None, backend: str = "onnx", **options: Any) -> FaceModel:
    """The embedder that `model` names (None: the newest run), by ONNX Runtime or by torch.

    `options` are those of OnnxEmbedder or, for torch, of TorchFolder (device, threads, strict). InputError as for
    `load`, and for another backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"expected the backend {' or '.join(BACKENDS)}, found {backend!r}")
    place = find_model(model)
    if backend == "onnx":
        return load_onnx(place.onnx(), **options)
    from zoo.backbones.timm_folder import TorchFolder

    return TorchFolder(place.folder(), **options)
