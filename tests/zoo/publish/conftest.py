"""A run to publish, and one to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.hub_models import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of an untrained MobileFaceNet."""
    return make_run(tmp_path_factory.mktemp("work") / "runs" / "toy")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run folder to spoil."""
    return Path(shutil.copytree(run, tmp_path / "spoilt"))
