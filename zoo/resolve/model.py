"""From MODEL to its files."""

from pathlib import Path

from zoo.errors import InputError, closest
from zoo.resolve.kinds import KINDS, ONNX, Folder, Place
from zoo.runs import RUNS, newest_run, run_folders


def find_model(model: str | Path | None) -> Place:
    """The place that MODEL names; None is the newest run. InputError with the closest names for one that is not there.

    Nothing is fetched: `Place.onnx` and `Place.folder` do that.
    """
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
