"""The safetensors format: a folder in timm's layout, which timm.create_model("local-dir:FOLDER") loads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from zoo.backbones.timm_folder import CONFIG, WEIGHTS, save_timm
from zoo.errors import InputError
from zoo.export.formats import Options
from zoo.modelinfo import ModelInfo


def default_target(folder: Path, output: Path | None) -> Path:
    """The folder to write: the user has to name one, since a run is in this layout already."""
    if output is None or output.suffix == ".onnx":
        raise InputError(
            f"{folder} has timm's layout already; name another folder with --output to copy the model there"
        )
    return output


def files(target: Path, options: Options) -> list[Path]:
    """What an export into the folder `target` writes."""
    return [target / CONFIG, target / WEIGHTS]


def write(model: nn.Module, info: ModelInfo, target: Path, options: Options) -> dict[str, Any]:
    """Writes config.json and model.safetensors into the folder `target`."""
    try:
        save_timm(model, target, asdict(info))
    except OSError as error:
        raise InputError(f"cannot write into {target} ({error.strerror}); choose another folder") from None
    return {"folder": str(target), "files": [CONFIG, WEIGHTS], "bytes": (target / WEIGHTS).stat().st_size}
