"""Measuring face models: exact metrics, the field's protocols, intervals that draw people, and reports. Never torch.

from zoo.evaluate import evaluate, evaluate_all

evaluate("model.onnx", "lfw.bin").accuracy
evaluate_all("model.onnx", "benchmarks/").save("report.html")
"""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo.evaluate.benchmarks.find import find_benchmarks
    from zoo.evaluate.benchmarks.options import Options
    from zoo.evaluate.benchmarks.runner import evaluate, evaluate_all
    from zoo.evaluate.protocols import PROTOCOLS, Found, Protocol
    from zoo.evaluate.report.page import save_all
    from zoo.evaluate.report.record import Report
    from zoo.evaluate.results import Evaluation, differences

__all__ = ["PROTOCOLS", "Evaluation", "Found", "Options", "Protocol", "Report", "differences", "evaluate"]
__all__ += ["evaluate_all", "find_benchmarks", "save_all"]
__getattr__, __dir__ = lazy(__name__, __file__)
