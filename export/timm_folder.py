"""Export to timm's layout: a folder that timm.create_model("local-dir:FOLDER") loads."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo import runs
from zoo.backbones import load_timm, model_info
from zoo.backbones.timm_folder import CONFIG, WEIGHTS, save_timm
from zoo.errors import InputError, explained
from zoo.resolve import find_model
from zoo.resolve.kinds import Folder


@dataclass(frozen=True)
class TimmExport:
    """What `export_timm` wrote."""

    folder: Path
    files: tuple[str, ...]
    bytes: int  #: The size of the weights

    def to_json(self) -> dict[str, Any]:
        """What `zoo export --json` prints."""
        return {"folder": str(self.folder), "files": list(self.files), "bytes": self.bytes}


def export_timm(model: str | Path | None, output: str | Path | None, *, force: bool = False) -> TimmExport:
    """Copies config.json and model.safetensors of MODEL (see `zoo.resolve`) into the folder `output`.

    Existing files are replaced only with `force`. InputError where the model cannot be read or the folder not written.
    """
    folder = source(model)
    target = timm_target(folder, output, force=force)
    with explained(f"cannot write into {target}", OSError, advice="choose another folder"):
        save_timm(load_timm(folder), target, asdict(model_info(folder)))
    return TimmExport(target, (CONFIG, WEIGHTS), (target / WEIGHTS).stat().st_size)


def timm_target(folder: Path, output: str | Path | None, *, force: bool = False) -> Path:
    """The folder `output`; InputError where the model in `folder` cannot be written there."""
    if output is None or Path(output).suffix == ".onnx":
        advice = "name another folder with --output to copy the model there"
        raise InputError(f"{folder} has timm's layout already; {advice}")
    require_free((Path(output) / name for name in (CONFIG, WEIGHTS)), force)
    return Path(output)


def source(model: str | Path | None) -> Path:
    """MODEL's folder in timm's layout; InputError for a run without a finished epoch or one being written."""
    place = find_model(model)
    if isinstance(place, Folder) and runs.is_being_written(place.path):
        raise InputError(f"the run {place.path} is being written at this moment; wait until it ends or stop it")
    return place.folder()


def require_free(paths: Iterable[Path], force: bool) -> None:
    """InputError where one of `paths` exists, unless `force`."""
    for path in paths:
        if path.exists() and not force:
            advice = "add --force to replace it or name another --output"
            raise InputError(f"expected no file at {path}, found one; {advice}")
