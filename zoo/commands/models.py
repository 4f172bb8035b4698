"""What MODEL means, the same for every command that takes one."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import InputError


def model_path(model: str | None) -> Path:
    """The ONNX file of `--model`: a file, a run folder, a run's name or a Hub id; None: the newest run that has one."""
    from zoo.runs import RUNS, find_run, run_folders

    if model is None:
        exported = [folder / "model.onnx" for folder in run_folders() if (folder / "model.onnx").is_file()]
        if not exported:
            raise InputError(
                "expected a model, found no run under runs/ with a model.onnx; pass --model with any ArcFace-style"
                " ONNX file or a Hub id, or make one: `zoo train resnet18` and `zoo export --onnx`"
            )
        return exported[-1]
    path = Path(model)
    if path.is_file():
        return path
    if path.suffix == ".onnx":
        raise InputError(f"expected an ONNX model at {model}, found no such file; check the path")
    if not path.exists() and not (RUNS / path).exists():
        from zoo.hub.pull import is_hub_id, resolve_model

        if is_hub_id(model):
            return resolve_model(model)
    file = path / "model.onnx" if path.is_dir() else find_run(model) / "model.onnx"
    if not file.is_file():
        raise InputError(
            f"expected {file.name} in {file.parent}, found none; export the run with `zoo export {file.parent} --onnx`"
        )
    return file
