"""zoo: a face-recognition model zoo as a timm plugin.

MODEL is an ONNX file, a run, a folder, or a model on the Hugging Face Hub (`zoo.resolve`):

zoo.load(MODEL)                  the torch model
zoo.load_onnx(MODEL)             an embedder on ONNX Runtime, without torch
zoo.verify(A, B, MODEL)          whether two photos show the same person, without torch
zoo.FaceVerifier(MODEL)          the same for many photos
zoo.Gallery.open(FILE)           known people, to identify faces by
zoo.export_onnx(MODEL)           ONNX files of a torch model, with proof that they compute the same
"""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.errors import InputError
    from zoo.export import export_onnx
    from zoo.recognition import FaceVerifier, Gallery, verify
    from zoo.resolve import load, load_onnx

__version__ = "0.1.0"
__all__ = ["FaceVerifier", "Gallery", "InputError", "__version__", "export_onnx", "load", "load_onnx", "verify"]
__getattr__, __dir__ = lazy(__name__, __file__)
