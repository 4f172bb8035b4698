"""Recognition with an ONNX file alone, without PyTorch: verify, identify, embed and align photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.recognition.align_folder import Aligned as Aligned
    from zoo.recognition.align_folder import align_photos as align_photos
    from zoo.recognition.draw import draw_identification as draw_identification
    from zoo.recognition.draw import draw_verification as draw_verification
    from zoo.recognition.draw import save_picture as save_picture
    from zoo.recognition.gallery import Gallery as Gallery
    from zoo.recognition.identify import Identification as Identification
    from zoo.recognition.index import Indexed as Indexed
    from zoo.recognition.table import Table as Table
    from zoo.recognition.table import embed_to_table as embed_to_table
    from zoo.recognition.verifier import FaceVerifier as FaceVerifier
    from zoo.recognition.verifier import Verification as Verification
    from zoo.recognition.verifier import verify as verify

__all__ = [
    "Aligned",
    "FaceVerifier",
    "Gallery",
    "Identification",
    "Indexed",
    "Table",
    "Verification",
    "align_photos",
    "draw_identification",
    "draw_verification",
    "embed_to_table",
    "save_picture",
    "verify",
]
__getattr__, __dir__ = lazy(
    __name__,
    {
        "align_folder": ["Aligned", "align_photos"],
        "draw": ["draw_identification", "draw_verification", "save_picture"],
        "gallery": ["Gallery"],
        "identify": ["Identification"],
        "index": ["Indexed"],
        "table": ["Table", "embed_to_table"],
        "verifier": ["FaceVerifier", "Verification", "verify"],
    },
)
