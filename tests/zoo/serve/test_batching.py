"""Threads share one session: each gets the embeddings of its own crops, and who waits together computes together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_model
from zoo.inference.session import OnnxEmbedder
from zoo.serve.batching import MOST_CROPS, SharedEmbedder


def test_every_thread_gets_what_it_would_get_alone(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    shared, alone = SharedEmbedder(path, device="cpu"), OnnxEmbedder(path, device="cpu")
    asked = [np.stack([crop(10 * n + i) for i in range(1 + n % 3)]) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared, asked))
    for crops, embeddings in zip(asked, found, strict=True):
        np.testing.assert_allclose(embeddings, alone(crops), atol=1e-5)


def test_calls_that_wait_go_through_the_model_as_one_batch_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedEmbedder(write_model(tmp_path / "m.onnx"), device="cpu")
    sizes: list[int] = []
    started, go = threading.Event(), threading.Event()
    genuine = OnnxEmbedder.__call__

    def slowly(self: OnnxEmbedder, crops: np.ndarray) -> np.ndarray:
        sizes.append(len(crops))
        started.set()
        go.wait(10)
        return genuine(self, crops)

    monkeypatch.setattr(OnnxEmbedder, "__call__", slowly)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(shared, crop(0)[None])
        started.wait(10)
        others = [pool.submit(shared, np.stack([crop(n), crop(n + 100)])) for n in range(11)]
        while len(shared._waiting) < 11:
            pass
        go.set()
        assert first.result().shape == (1, 48) and all(other.result().shape == (2, 48) for other in others)
    assert sizes == [1, MOST_CROPS, 22 - MOST_CROPS]


def test_an_error_reaches_every_caller_of_the_batch_and_the_next_call_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedEmbedder(write_model(tmp_path / "m.onnx"), device="cpu")
    with monkeypatch.context() as broken:
        broken.setattr(OnnxEmbedder, "__call__", lambda self, crops: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            shared(crop(0)[None])
    assert shared(crop(0)[None]).shape == (1, 48)
