"""Export to ONNX with proof, smaller variants with their cost, and inspection of any ONNX model."""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.export.artifacts import OnnxExport, export_onnx
    from zoo.export.inspect import Inspection, inspect_onnx
    from zoo.export.timm_folder import TimmExport, export_timm

__all__ = ["Inspection", "OnnxExport", "TimmExport", "export_onnx", "export_timm", "inspect_onnx"]
__getattr__, __dir__ = lazy(__name__, __file__)
