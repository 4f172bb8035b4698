"""zoo: a face-recognition model zoo as a timm plugin.

MODEL is an ONNX file, a run, a folder, or a model on the Hugging Face Hub (`zoo.resolve`):

zoo.load(MODEL)                  the torch model
zoo.load_onnx(MODEL)             an embedder on ONNX Runtime, without torch
zoo.verify(A, B, MODEL)          whether two photos show the same person, without torch
zoo.FaceVerifier(MODEL)          the same for many photos
zoo.Gallery.open(FILE)           known people, to identify faces by
zoo.export_onnx(MODEL)           ONNX files of a torch model, with proof that they compute the same
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.errors import InputError as InputError
    from zoo.export.artifacts import export_onnx as export_onnx
    from zoo.recognition import FaceVerifier as FaceVerifier
    from zoo.recognition import Gallery as Gallery
    from zoo.recognition import verify as verify
    from zoo.resolve import load as load
    from zoo.resolve import load_onnx as load_onnx

__version__ = "0.1.0"

LAZY = {
    "FaceVerifier": "zoo.recognition",
    "Gallery": "zoo.recognition",
    "InputError": "zoo.errors",
    "export_onnx": "zoo.export.artifacts",
    "load": "zoo.resolve",
    "load_onnx": "zoo.resolve",
    "verify": "zoo.recognition",
}
"""Names that are imported when they are first used, so that `import zoo` stays light."""

__all__ = ["FaceVerifier", "Gallery", "InputError", "__version__", "export_onnx", "load", "load_onnx", "verify"]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
