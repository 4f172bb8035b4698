"""The kinds of MODEL. A new kind is one class with `name`, `onnx` and `folder`, and one line in KINDS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zoo.errors import InputError
from zoo.runs import RUNS

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
        self._require_onnx()
        return self.path

    def _require_onnx(self) -> None:
        if self.path.suffix in CHECKPOINTS:
            advice = f"`zoo adopt {self.path} -o FOLDER` makes a model of another project's checkpoint"
            raise InputError(f"expected a model, found the checkpoint {self.path}; {advice}")

    def folder(self) -> Path:
        self._require_onnx()
        advice = f"name a run, a folder with {CONFIG} and {WEIGHTS}, or owner/name on the Hub"
        raise InputError(f"expected a model with PyTorch weights, found the file {self.path}; {advice}")


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
    Kind("OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME:FILE on the Hub", _hub),
]  #: Every kind in the order in which it is tried: what is written out first, then what lies here, then the Hub
