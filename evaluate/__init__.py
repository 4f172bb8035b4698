"""Measuring face models: exact metrics, the field's protocols, intervals that draw people, and reports. Never torch.

from zoo.evaluate import evaluate, evaluate_all

evaluate("model.onnx", "lfw.bin").accuracy
evaluate_all("model.onnx", "benchmarks/").save("report.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.evaluate.benchmarks.find import find_benchmarks
    from zoo.evaluate.benchmarks.options import Options
    from zoo.evaluate.benchmarks.runner import evaluate, evaluate_all
    from zoo.evaluate.protocols import PROTOCOLS, Found, Protocol
    from zoo.evaluate.report.record import Report
    from zoo.evaluate.report.write import save_all
    from zoo.evaluate.results import Evaluation, differences

PLACES = {
    "benchmarks.find": ("find_benchmarks",),
    "benchmarks.options": ("Options",),
    "benchmarks.runner": ("evaluate", "evaluate_all"),
    "protocols": ("PROTOCOLS", "Found", "Protocol"),
    "report.record": ("Report",),
    "report.write": ("save_all",),
    "results": ("Evaluation", "differences"),
}
LAZY = {name: f"zoo.evaluate.{module}" for module, names in PLACES.items() for name in names}
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
