"""Export to timm's layout: a folder that timm.create_model("local-dir:FOLDER") loads."""

from dataclasses import asdict
from pathlib import Path

from zoo.backbones import load_timm, model_info
from zoo.backbones.timm_folder import CONFIG, WEIGHTS, save_timm
from zoo.errors import InputError, explained
from zoo.export.artifacts import require_free, source


def timm_files(model: str | Path | None, output: str | Path | None, *, force: bool = False) -> list[Path]:
    """The files that `export_timm` writes; InputError where MODEL cannot be written there."""
    folder = source(model)
    if output is None or Path(output).suffix == ".onnx":
        raise InputError(f"{folder} has timm's layout already; name another folder with --output to copy it there")
    files = [Path(output) / name for name in (CONFIG, WEIGHTS)]
    require_free(files, force)
    return files


def export_timm(model: str | Path | None, output: str | Path | None, *, force: bool = False) -> list[Path]:
    """Copies config.json and model.safetensors of MODEL (see `zoo.resolve`) into the folder `output`; the two files."""
    files = timm_files(model, output, force=force)
    with explained(f"cannot write into {output}", OSError, advice="choose another folder"):
        save_timm(load_timm(source(model)), files[0].parent, asdict(model_info(source(model))))
    return files
