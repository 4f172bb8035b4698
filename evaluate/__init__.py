"""Measuring face models: exact metrics, the field's protocols, intervals that draw people, and reports. Never torch.

from zoo.evaluate import evaluate

evaluate("model.onnx", "lfw.bin").accuracy
evaluate_all("model.onnx", "benchmarks/").save("report.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.evaluate.benchmarks.find import find_benchmarks as find_benchmarks
    from zoo.evaluate.benchmarks.runner import Options as Options
    from zoo.evaluate.benchmarks.runner import evaluate as evaluate
    from zoo.evaluate.benchmarks.runner import evaluate_all as evaluate_all
    from zoo.evaluate.protocols import PROTOCOLS as PROTOCOLS
    from zoo.evaluate.protocols import Found as Found
    from zoo.evaluate.protocols import Protocol as Protocol
    from zoo.evaluate.report.record import Report as Report
    from zoo.evaluate.report.write import save_all as save_all
    from zoo.evaluate.results import Evaluation as Evaluation
    from zoo.evaluate.results import differences as differences

LAZY = {
    "Evaluation": "zoo.evaluate.results",
    "Found": "zoo.evaluate.protocols",
    "Options": "zoo.evaluate.benchmarks.runner",
    "PROTOCOLS": "zoo.evaluate.protocols",
    "Protocol": "zoo.evaluate.protocols",
    "Report": "zoo.evaluate.report.record",
    "differences": "zoo.evaluate.results",
    "evaluate": "zoo.evaluate.benchmarks.runner",
    "evaluate_all": "zoo.evaluate.benchmarks.runner",
    "find_benchmarks": "zoo.evaluate.benchmarks.find",
    "save_all": "zoo.evaluate.report.write",
}
"""Names that are imported when they are first used, so that `import zoo.evaluate.metrics` stays light."""

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "Found",
    "Options",
    "Protocol",
    "Report",
    "differences",
    "evaluate",
    "evaluate_all",
    "find_benchmarks",
    "save_all",
]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module 'zoo.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
