"""`zoo.evaluate` offers its names lazily."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo.evaluate

HEAVY = ("torch", "timm", "albumentations")


def test_every_public_name_is_there() -> None:
    for name in zoo.evaluate.__all__:
        assert getattr(zoo.evaluate, name) is not None
    assert set(zoo.evaluate.__all__) <= set(dir(zoo.evaluate))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        zoo.evaluate.evalute  # noqa: B018


def test_metrics_are_imported_without_what_runs_a_model_and_the_function_stays_one() -> None:
    code = (
        "import sys; import zoo.evaluate.metrics; light = set(sys.modules);"
        "from zoo.evaluate import evaluate; import zoo.evaluate.benchmarks.runner;"
        "print(sorted({'onnxruntime', 'cv2', 'matplotlib'} & light), callable(zoo.evaluate.evaluate),"
        f"sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True []"
