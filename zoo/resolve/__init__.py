"""The one meaning of MODEL, for every command and for `zoo.load`, `zoo.load_onnx` and `zoo.FaceVerifier`.

MODEL is one of the KINDS: an ONNX file, a folder (a run, or a model in timm's layout), a run's name, or a model on the
Hub. Each kind turns the text into a `Place`, which finds the ONNX file or the folder with the weights when it is asked.
Imports no torch before a torch model is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from zoo.errors import InputError, closest
from zoo.runs import RUNS, newest_run, run_folders

__all__ = ["KINDS", "Kind", "Place", "check_pulled", "find_model", "load", "load_embedder", "load_onnx"]
__all__ += ["onnx_file", "torch_folder"]

ONNX, CONFIG, WEIGHTS = "model.onnx", "config.json", "model.safetensors"
CHECKPOINTS = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors"})  #: Names of others' weights


class Place(Protocol):
    """Where a model lies; it is looked for, or fetched, when one of its two forms is asked for."""

    @property
    def name(self) -> str:
        """What people call it: a file's, a run's or a repository's name."""

    def onnx(self) -> Path:
        """The ONNX file; InputError where the model has none."""

    def folder(self) -> Path:
        """The folder with config.json and model.safetensors in timm's layout; InputError where it has none."""


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, from zoo or a third party."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.parent.name if self.path.name == ONNX and self.path.parent.name else self.path.name

    def onnx(self) -> Path:
        if self.path.suffix in CHECKPOINTS:
            advice = f"`zoo adopt {self.path} -o FOLDER` makes a model of another project's checkpoint"
            raise InputError(f"expected a model, found the checkpoint {self.path}; {advice}")
        return self.path

    def folder(self) -> Path:
        advice = f"name a run, a folder with {CONFIG} and {WEIGHTS}, or owner/name on the Hub"
        raise InputError(f"expected a model with PyTorch weights, found the file {self.onnx()}; {advice}")


@dataclass(frozen=True)
class Folder:
    """A run folder, or a model in timm's layout."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def onnx(self) -> Path:
        file = self.path / ONNX
        if file.is_file():
            return file
        if not any((self.path / known).is_file() for known in (CONFIG, "config.yaml")):
            raise InputError(f"expected a model in the folder {self.path}, found neither {ONNX} nor {CONFIG}")
        raise InputError(f"expected {ONNX} in {self.path}, found none; export it with `zoo export {self.path} --onnx`")

    def folder(self) -> Path:
        missing = [name for name in (CONFIG, WEIGHTS) if not (self.path / name).is_file()]
        if not missing:
            return self.path
        if (self.path / "config.yaml").is_file():
            found = f"found a run that never finished an epoch; go on with `zoo train --resume {self.path}`"
            raise InputError(f"expected a trained model in {self.path}, {found}")
        raise InputError(f"expected {CONFIG} and {WEIGHTS} in {self.path}, found no {missing[0]}; name another folder")


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face Hub, fetched into the cache and checked when it is asked for."""

    id: str  #: owner/name or owner/name@revision

    @property
    def name(self) -> str:
        return self.id.partition("@")[0]

    def onnx(self) -> Path:
        from zoo.hub.pull import pull

        return pull(self.id, (ONNX,)).folder / ONNX

    def folder(self) -> Path:
        from zoo.hub.pull import pull

        return pull(self.id, (CONFIG, WEIGHTS)).folder


@dataclass(frozen=True)
class HubFile:
    """One file of any repository on the Hub, fetched into the cache and checked when it is asked for."""

    id: str  #: owner/name or owner/name@revision
    file_name: str  #: The file's name there, such as onnx/model.onnx

    @property
    def name(self) -> str:
        return f"{self.id.partition('@')[0]}:{self.file_name}"

    def file(self) -> Path:
        """The file itself, of whatever kind."""
        from zoo.hub.pull import pull_file

        return pull_file(self.id, self.file_name)

    def onnx(self) -> Path:
        if not self.file_name.endswith(".onnx"):
            advice = f"`zoo adopt {self.name} -o FOLDER` makes a model of it"
            raise InputError(f"expected an ONNX file, found {self.name}; {advice}")
        return self.file()

    def folder(self) -> Path:
        found = f"found the file {self.name}; `zoo adopt {self.name} -o FOLDER` makes one of it"
        raise InputError(f"expected a model with PyTorch weights in timm's layout, {found}")


@dataclass(frozen=True)
class Kind:
    """One way of naming a model."""

    form: str  #: How it is written, for messages and help
    find: Callable[[str], Place | None]  #: The place that a text names; None where the text is not of this kind


def _explicit_folder(text: str) -> Place | None:
    if not text.startswith("local-dir:"):
        return None
    path = Path(text.removeprefix("local-dir:"))
    if not path.is_dir():
        raise InputError(f"expected a folder at {path}, found none; check the path")
    return Folder(path)


def _path(text: str) -> Place | None:
    path = Path(text)
    if text and path.is_dir():
        other = not any((path / known).is_file() for known in (ONNX, CONFIG, "config.yaml"))
        return None if other and _run(text) else Folder(path)  # a folder of photos does not hide a run of its name
    return OnnxFile(path) if path.is_file() else None


def _run(text: str) -> Place | None:
    path = RUNS / text
    return Folder(path) if text and path.is_dir() and path != RUNS else None


def packaged() -> dict[str, Path]:
    """The ONNX files that come with zoo, by name."""
    above = Path(__file__).resolve().parents[1:3]  # in zoo/ as installed; beside it in a checkout
    return {file.parent.name: file for folder in above for file in folder.glob(f"model_cards/*/{ONNX}")}


def _hub(text: str) -> Place | None:
    from zoo.hub.pull import is_hub_id

    repo, _, file = text.removeprefix("hf-hub:").partition(":")
    if not (text.startswith("hf-hub:") or is_hub_id(repo)):
        return None
    return HubFile(repo, file) if file else HubModel(repo)


KINDS: list[Kind] = [
    Kind("hf-hub:OWNER/NAME", lambda text: _hub(text) if text.startswith("hf-hub:") else None),
    Kind("local-dir:FOLDER", _explicit_folder),
    Kind("an .onnx file or a model's folder", _path),
    Kind("the name of a run", _run),
    Kind("the name of a model that comes with zoo", lambda t: OnnxFile(packaged()[t]) if t in packaged() else None),
    Kind("OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME:FILE on the Hub", _hub),
]  #: Every kind in the order in which it is tried: what is written out first, then what lies here, then the Hub


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


def onnx_file(model: str | Path | None) -> Path:
    """The ONNX file of MODEL, fetched where it is on the Hub; None: that of the newest run that has one."""
    if model is not None:
        return find_model(model).onnx()
    exported = [folder / ONNX for folder in run_folders() if (folder / ONNX).is_file()]
    if not exported:
        advice = "or a model on the Hub, or make one: `zoo train resnet18` and `zoo export --onnx`"
        given = f"pass --model with any ArcFace-style ONNX file {advice}"
        raise InputError(f"expected a model, found no run under {RUNS}/ with a {ONNX}; {given}")
    return exported[-1]


def torch_folder(model: str | Path | None) -> Path:
    """The folder of MODEL in timm's layout, fetched where it is on the Hub; None: the newest run."""
    return find_model(model).folder()


def _similar(text: str) -> str:
    """The runs and the neighbouring files whose names are close to a text, as a question."""
    path = Path(text)
    beside = [str(path.parent / file.name) for file in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    runs = run_folders()
    close = closest(text, [*(folder.name for folder in runs), *map(str, runs), *packaged(), *beside])
    return f"; did you mean {' or '.join(close)}?" if close else ""


if TYPE_CHECKING:
    from torch import nn

    from zoo.backbones.timm_folder import TorchFolder
    from zoo.hub.pull import Pulled
    from zoo.inference.session import OnnxEmbedder

FaceModel: TypeAlias = "OnnxEmbedder | TorchFolder"  #: An embedder with the facts of its model


def load(model: str | Path) -> "nn.Module":
    """The torch model that `model` names (see `zoo.resolve`), with its weights, in evaluation mode.

    x: float32 (batch, 3, H, W), RGB, (x − 127.5) / 127.5 → (batch, dim), not normalised. InputError for a model
    that is not there, is not what its hash says, or names an architecture or argument that is not known.
    """
    from zoo.backbones import load_timm

    return load_timm(torch_folder(model))


def check_pulled(pulled: "Pulled") -> list[str]:
    """Opens what a pull brought, and says in a line for each form what it is; InputError where one does not work."""
    found = []
    if {CONFIG, WEIGHTS} <= set(pulled.files):
        from zoo.backbones import blueprint_of

        built = blueprint_of(load(pulled.folder))  # loading rejects what it does not know and what does not fit
        found.append(f"{built.backbone}, {built.embedding_dim} dimensions: the weights fit")
    if ONNX in pulled.files:
        found.append(f"{ONNX} runs, {load_onnx(pulled.folder, device='cpu').embedding_dim} dimensions")
    return found


def load_onnx(model: str | Path, **options: Any) -> "OnnxEmbedder":
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
    if backend not in ("onnx", "torch"):
        raise InputError(f"expected the backend onnx or torch, found {backend!r}")
    place = find_model(model)
    if backend == "onnx":
        return load_onnx(place.onnx(), **options)
    from zoo.backbones.timm_folder import TorchFolder

    return TorchFolder(place.folder(), **options)
