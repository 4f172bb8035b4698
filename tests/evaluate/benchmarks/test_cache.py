"""Embeddings are reused for the very same question alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import colour_pairs, model, own_cache, run, write_pairs
from tests.support.onnx_models import write_model
from tests.support.places import ROOT
from zoo.evaluate import Options
from zoo.evaluate.benchmarks import cache, runner
from zoo.evaluate.protocols import PairsProtocol
from zoo.inference.embed import spans

__all__ = ["model", "own_cache"]


def test_the_cache_is_reused_and_never_for_something_else(
    tmp_path: Path, model: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "a.bin")
    first = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]
    second = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]
    assert "reused from the cache" not in first and "reused from the cache" in second
    assert first.splitlines()[:8] == second.splitlines()[:8]
    other_data = write_pairs(tmp_path / "b.bin", seed=1)
    other_model = write_model(tmp_path / "other.onnx", seed=1)
    for changed in (
        [model, "--data", other_data],
        [other_model, "--data", data],
        [model, "--data", data, "--no-flip"],
        [model, "--data", data, "--no-cache"],
    ):
        assert "reused" not in run(capsys, "evaluate", *changed, "--device", "cpu")[1]
    for entry in (own_cache / "embeddings").glob("*.npz"):
        entry.write_bytes(entry.read_bytes()[:-40])
    assert "reused" not in run(capsys, "evaluate", model, "--data", data, "--device", "cpu")[1]


def test_an_altered_entry_is_not_believed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 3), dtype=np.float32)
    cache.store(tmp_path / "new", "key", vectors)
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    np.testing.assert_array_equal(cache.load(tmp_path / "new", "key", 7), vectors)
    assert cache.load(tmp_path / "new", "key", 8) is None and cache.load(tmp_path / "new", "other", 7) is None
    np.savez(tmp_path / "new" / "key.npz", embeddings=vectors + 1, sha256="0" * 64)
    assert cache.load(tmp_path / "new", "key", 7) is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the whole package, whose source the keys are made of."""
    copy = tmp_path / "zoo"
    shutil.copytree(ROOT / "zoo", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "PACKAGE", copy)
    yield copy
    cache.source_sha256.cache_clear()


def key(torch: bool = False) -> str:
    images, same = colour_pairs(3)
    cache.source_sha256.cache_clear()
    return cache.cache_key({"flip": True}, PairsProtocol(images, same), torch)


@pytest.mark.parametrize(
    "room", ["modelinfo.py", "formats", "faces", "inference", "evaluate/lists.py", "evaluate/protocols"]
)
def test_every_file_of_a_room_that_touches_a_picture_changes_the_key(package: Path, room: str) -> None:
    before = key()
    files = sorted((package / room).rglob("*.py")) if (package / room).is_dir() else [package / room]
    for file in files:
        source = file.read_text()
        file.write_text(f"{source}# changed\n")
        assert key() != before, file
        file.write_text(source)
    assert key() == before
    if (package / room).is_dir():
        (package / room / "new.py").touch()
        assert key() != before


def test_backbones_change_the_key_of_torch_alone_and_other_rooms_none(package: Path) -> None:
    before, by_torch = key(), key(torch=True)
    assert before != by_torch
    for file in ("heads/arcface.py", "commands/evaluate.py", "evaluate/metrics.py"):
        (package / file).write_text("# changed\n")
    assert (key(), key(torch=True)) == (before, by_torch)
    (package / "backbones/stems.py").write_text("# changed\n")
    assert key() == before and key(torch=True) != by_torch


def test_the_pictures_the_facts_and_the_protocol_are_part_of_the_key() -> None:
    images, same = colour_pairs(3)

    class Other(PairsProtocol):
        pass

    keys = {
        cache.cache_key({"flip": True}, PairsProtocol(images, same)),
        cache.cache_key({"flip": False}, PairsProtocol(images, same)),
        cache.cache_key({"flip": True}, PairsProtocol(images[::-1], same)),
        cache.cache_key({"flip": True}, Other(images, same)),
    }
    assert len(keys) == 4


class Stopped(Exception):
    """Stands for a kill in the middle of a benchmark."""


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_benchmark_that_was_stopped_resumes_where_it_was(
    devices: str, tmp_path: Path, model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, same = colour_pairs(40)
    protocol = PairsProtocol(images, same, data="colours")
    options = {"batch_size": 3, "device": devices, "workers": 0}
    whole = runner.embeddings_of(runner.load_model(model, Options(**options, cache=False)), protocol)
    read: list[int] = []
    plain = PairsProtocol.image

    def stopping(self: PairsProtocol, index: int) -> object:
        read.append(index)
        if index == 70:
            raise Stopped
        return plain(self, index)

    if devices == "cpu":
        monkeypatch.setattr(PairsProtocol, "image", stopping)
        with pytest.raises(Stopped):
            runner.embeddings_of(runner.load_model(model, Options(**options)), protocol)
        (parts,) = (own_cache / "embeddings").iterdir()
        last = max(parts.iterdir(), key=lambda part: int(part.stem))
        last.write_bytes(last.read_bytes()[:-40])
        monkeypatch.setattr(PairsProtocol, "image", plain)
    else:  # parts of several processes come in any order
        key = runner.cache_key_of(runner.load_model(model, Options(**options)), protocol)
        kept = cache.Parts(own_cache / "embeddings" / f"{key}-3")
        for start, stop in spans(80, 3, 2)[1::2]:
            kept.add(start, whole[start:stop])
    told: list[str] = []
    resumed = runner.embeddings_of(runner.load_model(model, Options(**options)), protocol, tell=told.append)
    np.testing.assert_array_equal(resumed, whole)
    assert len(told) == 1 and "resumed" in told[0]
    (entry,) = (own_cache / "embeddings").iterdir()
    assert entry.suffix == ".npz" and (own_cache / "embeddings").stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_written_costs_no_figures(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    data = write_pairs(tmp_path / "a.bin")
    status, out, _ = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")
    assert status == 0 and "accuracy" in out and out.index("accuracy") < out.index("the cache cannot be written")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "store", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    status, out, _ = run(capsys, "evaluate", model, "--data", data, "--device", "cpu")
    assert status == 0 and "accuracy" in out and "No space left on device" in out
