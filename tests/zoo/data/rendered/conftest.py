"""A few rendered people, of the real morphable model."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.data.rendered import RenderedFaces


@pytest.fixture(scope="session")
def faces(shared: Path) -> RenderedFaces:
    return RenderedFaces(shared / "data/ict_face", 3, 4)
