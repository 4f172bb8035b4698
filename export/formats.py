"""The formats that a model is exported to. A new one is a file with three functions, and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from zoo.modelinfo import ModelInfo


@dataclass(frozen=True)
class Options:
    """What a user may ask of an export; a format takes what concerns it."""

    opset: int | None = None
    """ONNX operator set; None is the default of zoo.export.onnx."""
    fp16: bool = False
    """A float16 file beside the float32 one."""
    int8: bool = False
    """An int8 file beside the float32 one."""
    calibrate: str | None = None
    """Crops for ranges and parity, as zoo.export.calibration.read_crops takes them."""
    training_data: str | None = None
    """Used instead where the user names no crops and these have the model's size."""
    methods: tuple[str, ...] = ("percentile", "entropy")
    """How int8 ranges are tried."""
    data: str | None = None
    """A .bin file of pairs that variants are compared on; None draws faces."""
    max_accuracy_drop: float | None = None
    """A variant whose accuracy on the pairs falls by more than this fraction is refused."""
    strict: bool = False
    """A variant is also refused where only the 95 % interval of its fall reaches beyond `max_accuracy_drop`."""
    force: bool = False
    """Replace existing files."""
    say: Callable[[str], None] = lambda line: None
    """Told what is being done."""


@dataclass(frozen=True)
class Format:
    """A format: where it is implemented, and what a user is told of it."""

    module: str
    """A module with `default_target(folder, output) -> Path`, `files(target, options) -> list[Path]` and
    `write(model, info, target, options) -> dict`."""
    what: str
    """For --help."""

    def target(self, folder: Path, output: Path | None) -> Path:
        """Where an export of the model in `folder` goes, `output` being the user's wish."""
        target: Path = importlib.import_module(self.module).default_target(folder, output)
        return target

    def require_free(self, target: Path, options: Options) -> None:
        """InputError where a file that this export would replace or remove exists, unless the user said --force."""
        for path in importlib.import_module(self.module).files(target, options):
            if path.exists() and not options.force:
                raise InputError(
                    f"expected no file at {path}, found one; add --force to replace it or name another --output"
                )

    def write(self, model: nn.Module, info: ModelInfo, target: Path, options: Options) -> dict[str, Any]:
        """Writes the model, whole or not at all, and returns the facts of what was written, fit for JSON."""
        facts: dict[str, Any] = importlib.import_module(self.module).write(model, info, target, options)
        return facts


FORMATS: Registry[Format] = Registry("format")
FORMATS.register("onnx")(Format("zoo.export.artifacts", "ONNX with metadata and measured parity"))
FORMATS.register("safetensors")(Format("zoo.export.timm_folder", "config.json and model.safetensors, timm's layout"))
