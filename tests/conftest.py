"""What every test may ask for; and the environment that must be set before anything is imported."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels for a GPU are interpreted where there is none

import pytest

from tests.support.places import SHARED

collect_ignore = ["support/fuzz_formats.py"]  # a program of its own, which needs atheris at import


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces, models and photos beside the checkout; tests that need it skip without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"the real development data is not there ({SHARED.name}/ beside the checkout)")
    return SHARED
