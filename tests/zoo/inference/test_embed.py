"""A stream of pictures becomes an array of embeddings, whatever computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.benchmarks import (
    lfw,
    model,
)
from zoo.errors import InputError
from zoo.evaluate.protocols import PairsProtocol
from zoo.inference.embed import Job, batches, embed, embed_on
from zoo.inference.session import OnnxEmbedder


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def test_embedding_in_batches_equals_one_by_one_and_flip_adds_the_mirror(crops: np.ndarray) -> None:
    asymmetric = np.linspace(0, 1, 112)

    def embedder(batch: np.ndarray) -> np.ndarray:
        return np.einsum("nhwc,w->nc", batch.astype(np.float32), asymmetric.astype(np.float32))

    plain = embed(embedder, crops, batch_size=3, flip=False)
    np.testing.assert_array_equal(plain, np.concatenate([embedder(crop[None]) for crop in crops]))
    flipped = embed(embedder, iter(crops), batch_size=2, flip=True)
    np.testing.assert_allclose(flipped, plain + embedder(crops[:, :, ::-1]), rtol=1e-6)
    assert np.abs(flipped - 2 * plain).max() > 1


def test_progress_is_told_and_pictures_of_two_sizes_pass(crops: np.ndarray) -> None:
    told: list[int] = []
    pictures = [*crops[:3], np.zeros((24, 24, 3), np.uint8)]
    found = embed(lambda batch: np.full((len(batch), 2), batch.shape[1], np.float32), pictures, 2, False, told.append)
    assert found[:, 0].tolist() == [112, 112, 112, 24] and told == [2, 1, 1]
    with pytest.raises(InputError, match="found none"):
        embed(lambda batch: np.zeros((len(batch), 2), np.float32), [])


def test_a_picture_without_a_face_is_a_row_of_zeros_and_batches_stay_where_they_were() -> None:
    pictures = [None if index in (1, 4, 5) else np.full((2, 2, 3), index, np.uint8) for index in range(9)]
    told: list[int] = []
    found = embed(lambda crops: crops[:, 0, 0].astype(np.float32) + 1, pictures, 3, flip=False, progress=told.append)
    assert found[:, 0].tolist() == [1, 0, 3, 4, 0, 0, 7, 8, 9] and sum(told) == 6
    assert [len(batch) for batch in batches(pictures, 3, [])] == [2, 1, 3]
    assert embed(lambda crops: crops, [None] * 4, dim=5).shape == (4, 5)
    with pytest.raises(InputError, match="no face in any of 4"):
        embed(lambda crops: crops, [None] * 4)


__all__ = ["lfw", "model"]


def test_two_processes_embed_as_one_bit_for_bit(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.open(PairsProtocol.named(lfw / "pairs.txt"))
    one = embed(OnnxEmbedder(model, device="cpu"), protocol.images(), 5)
    told: list[int] = []
    two, notes = embed_on(Job(model, protocol, 5), ["cpu", "cpu"], told.append)
    assert two.tobytes() == one.tobytes() and sum(told) == len(protocol)
    assert any("assumed" in note for note in notes)


def test_an_error_in_a_process_comes_back_as_its_sentence(lfw: Path, model: Path) -> None:
    protocol = PairsProtocol.open(PairsProtocol.named(lfw / "pairs.txt"))
    (lfw / "aligned" / "Person_03" / "Person_03_0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="Person_03_0002"):
        embed_on(Job(model, protocol, 5), ["cpu", "cpu"])


def test_a_real_model_embeds_the_same_on_two_processes(shared: Path) -> None:
    path = shared / "models/mobilefacenet.onnx"
    protocol = PairsProtocol.from_bin(shared / "data/lfw_rec/lfw_dev.bin")

    some = PairsProtocol(protocol._images[:46], np.ones(23, bool), data="some")
    one = embed(OnnxEmbedder(path, device="cpu"), some.images(), 8)
    two, _ = embed_on(Job(path, some, 8), ["cpu", "cpu"])
    assert one.tobytes() == two.tobytes()
