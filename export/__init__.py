"""Export to ONNX with proof, smaller variants with their cost, and inspection of any ONNX model."""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.export.artifacts import OnnxExport, export_onnx
    from zoo.export.inspect import Inspection, inspect_onnx

__all__ = ["Inspection", "OnnxExport", "export_onnx", "inspect_onnx"]
__getattr__, __dir__ = lazy(__name__, __file__)
