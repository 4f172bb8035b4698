"""Embedding crops by a torch model: the same input as for ONNX Runtime, and no trace left on the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from zoo.backbones.torch_embedder import TorchEmbedder, normalise
from zoo.modelinfo import InputSpec

CROPS = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_input_is_that_of_every_other_program(order: str) -> None:
    spec = InputSpec(size=(7, 5), mean=100.0, std=50.0, channel_order=order)
    assert np.array_equal(normalise(torch.from_numpy(CROPS), spec).numpy(), spec.to_input(CROPS))


@pytest.mark.parametrize("training", [True, False])
def test_embedding_leaves_the_models_mode_and_statistics_as_they_were(training: bool) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 7 * 5, 11)).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    embeddings = TorchEmbedder(model, InputSpec(size=(7, 5)))(CROPS)
    assert embeddings.shape == (3, 11) and embeddings.dtype == np.float32
    assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
