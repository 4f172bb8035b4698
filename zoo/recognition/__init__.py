"""Recognition with an ONNX file alone, without PyTorch: verify, identify, embed and align photos."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.recognition.align_folder import Aligned as Aligned
    from zoo.recognition.align_folder import align_photos as align_photos
    from zoo.recognition.draw import draw_identification as draw_identification
    from zoo.recognition.draw import draw_verification as draw_verification
    from zoo.recognition.draw import save_picture as save_picture
    from zoo.recognition.gallery import Gallery as Gallery
    from zoo.recognition.gallery import Identification as Identification
    from zoo.recognition.table import Table as Table
    from zoo.recognition.table import embed_to_table as embed_to_table
    from zoo.recognition.verifier import FaceVerifier as FaceVerifier
    from zoo.recognition.verifier import Verification as Verification
    from zoo.recognition.verifier import verify as verify

LAZY = {
    **dict.fromkeys(("FaceVerifier", "Verification", "verify"), "verifier"),
    **dict.fromkeys(("Gallery", "Identification"), "gallery"),
    **dict.fromkeys(("Table", "embed_to_table"), "table"),
    **dict.fromkeys(("Aligned", "align_photos"), "align_folder"),
    **dict.fromkeys(("draw_identification", "draw_verification", "save_picture"), "draw"),
}
"""Public names and their modules, which are imported at the first use: verification needs no drawing."""

__all__ = sorted(LAZY)


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(f"zoo.recognition.{LAZY[name]}"), name)
    raise AttributeError(f"module 'zoo.recognition' has no attribute {name!r}")
