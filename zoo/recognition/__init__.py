"""Recognition with an ONNX file alone, without PyTorch: verify, identify, embed and align photos."""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.recognition.batch import Aligned, align_photos
    from zoo.recognition.cluster import Table, embed_to_table
    from zoo.recognition.gallery import Gallery
    from zoo.recognition.identify import Identification, draw_identification, draw_verification, save_picture
    from zoo.recognition.index import Indexed
    from zoo.recognition.verifier import FaceVerifier, Verification, verify

__all__ = ["Aligned", "FaceVerifier", "Gallery", "Identification", "Indexed", "Table", "Verification", "align_photos"]
__all__ += ["draw_identification", "draw_verification", "embed_to_table", "save_picture", "verify"]
__getattr__, __dir__ = lazy(__name__, __file__)
