"""What several tests of the export ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exporting import make_model


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in timm's layout, whose variants are compared on few pairs and for a short time."""
    return make_model(tmp_path / "model", monkeypatch)
