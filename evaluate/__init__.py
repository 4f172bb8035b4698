"""Measuring face models: exact metrics, the field's protocols, intervals that draw people, and reports. Never torch.

from zoo.evaluate import evaluate, evaluate_all

evaluate("model.onnx", "lfw.bin").accuracy
evaluate_all("model.onnx", "benchmarks/").save("report.html")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.evaluate.benchmarks.find import find_benchmarks
    from zoo.evaluate.benchmarks.options import Options
    from zoo.evaluate.benchmarks.runner import evaluate, evaluate_all
    from zoo.evaluate.protocols import PROTOCOLS, Found, Protocol
    from zoo.evaluate.report.record import Report
    from zoo.evaluate.report.write import save_all
    from zoo.evaluate.results import Evaluation, differences

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
__getattr__, __dir__ = lazy(
    __name__,
    {
        "benchmarks.find": ["find_benchmarks"],
        "benchmarks.options": ["Options"],
        "benchmarks.runner": ["evaluate", "evaluate_all"],
        "protocols": ["PROTOCOLS", "Found", "Protocol"],
        "report.record": ["Report"],
        "report.write": ["save_all"],
        "results": ["Evaluation", "differences"],
    },
)
