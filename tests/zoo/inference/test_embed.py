"""A stream of pictures becomes an array of embeddings, whatever computes them."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.inference.embed import embed


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
