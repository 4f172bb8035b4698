"""zoo: a face-recognition model zoo as a timm plugin.

zoo.load("hf-hub:owner/name")       a torch model        (zoo.resolve.load)
zoo.load_onnx("hf-hub:owner/name")  an embedder, no torch (zoo.resolve.load_onnx)
zoo.FaceVerifier("model.onnx")      two photos, one answer, no torch (zoo.recognition.verifier.FaceVerifier)
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

LAZY = {"load": "zoo.resolve", "load_onnx": "zoo.resolve", "FaceVerifier": "zoo.recognition.verifier"}
"""Names that are imported when they are first used, so that `import zoo` stays light."""


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *LAZY])
