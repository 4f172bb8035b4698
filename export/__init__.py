"""Export to ONNX with proof, smaller variants with their cost, and inspection of any ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.export.artifacts import OnnxExport as OnnxExport
    from zoo.export.artifacts import export_onnx as export_onnx
    from zoo.export.inspect import Inspection as Inspection
    from zoo.export.inspect import inspect_onnx as inspect_onnx
    from zoo.export.timm_folder import TimmExport as TimmExport
    from zoo.export.timm_folder import export_timm as export_timm

__all__ = ["Inspection", "OnnxExport", "TimmExport", "export_onnx", "export_timm", "inspect_onnx"]
__getattr__, __dir__ = lazy(
    __name__,
    {
        "artifacts": ["OnnxExport", "export_onnx"],
        "inspect": ["Inspection", "inspect_onnx"],
        "timm_folder": ["TimmExport", "export_timm"],
    },
)
