"""zoo: a face-recognition model zoo as a timm plugin.

MODEL is an ONNX file, a run, a folder, or a model on the Hugging Face Hub (`zoo.resolve`):

zoo.load(MODEL)                  the torch model
zoo.load_onnx(MODEL)             an embedder on ONNX Runtime, without torch
zoo.FaceVerifier(MODEL)          compares the faces of two photos, without torch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.errors import InputError as InputError
    from zoo.recognition.verifier import FaceVerifier as FaceVerifier
    from zoo.resolve import load as load
    from zoo.resolve import load_onnx as load_onnx

__version__ = "0.1.0"

LAZY = {
    "FaceVerifier": "zoo.recognition.verifier",
    "InputError": "zoo.errors",
    "load": "zoo.resolve",
    "load_onnx": "zoo.resolve",
}
"""Names that are imported when they are first used, so that `import zoo` stays light."""

__all__ = ["FaceVerifier", "InputError", "__version__", "load", "load_onnx"]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
