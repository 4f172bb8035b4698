"""Where the tests of data lie, and nothing of theirs leaves the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layouts import (
    noise,
)
from tests.support.records import identity_payloads, write
from zoo.formats.images import encode_png


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def shards(monkeypatch, tmp_path) -> Path:
    """Where the indexes of shards are kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


PEOPLE = {"anna": 3, "ben": 2, "cora": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "people"
    for number, (name, count) in enumerate(PEOPLE.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(encode_png(noise(10 * number + i)))
    return root


@pytest.fixture
def rec(tmp_path: Path) -> Path:
    people = [
        [encode_png(noise(10 * number + i)) for i in range(count)] for number, count in enumerate(PEOPLE.values())
    ]
    (tmp_path / "rec").mkdir()
    return write(tmp_path / "rec", identity_payloads(people)).parent
