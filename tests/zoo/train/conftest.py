"""A run that the tests of training share."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.training import in_process, start, tiny


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted tiny run in a process of its own, and the seconds that it took."""
    run = start(tiny(), tmp_path_factory.mktemp("runs") / "whole")
    in_process(tiny(epochs=1), start(tiny(epochs=1), run.parent / "warm-up"))
    began = time.monotonic()
    assert in_process(tiny(), run) == 0
    return run, time.monotonic() - began
