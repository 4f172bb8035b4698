"""The one meaning of MODEL, for every command and for `zoo.load`, `zoo.load_onnx` and `zoo.FaceVerifier`.

MODEL is one of the KINDS: an ONNX file, a folder (a run, or a model in timm's layout), a run's name, or a model on the
Hub. Each kind turns the text into a `Place`, which finds the ONNX file or the folder with the weights when it is asked.
Imports no torch before a torch model is asked for.
"""

from zoo.resolve.kinds import KINDS, Kind, Place
from zoo.resolve.loaders import check_pulled, find_model, load, load_embedder, load_onnx, onnx_file, torch_folder

__all__ = ["KINDS", "Kind", "Place", "check_pulled", "find_model", "load", "load_embedder", "load_onnx"]
__all__ += ["onnx_file", "torch_folder"]
