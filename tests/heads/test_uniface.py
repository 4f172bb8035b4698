"""UniFace: binary cross-entropy of every class with one learned threshold."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from tests.support.heads import data, loss_with
from zoo.heads import build_head


def test_uniface_is_torchs_binary_cross_entropy_of_every_class_and_its_bias_learns() -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head("uniface", balance=0.3), centres)
    value = loss(embeddings, labels)
    value.backward()
    cos = F.normalize(embeddings) @ F.normalize(centres).T
    own = F.one_hot(labels, len(centres)).double()
    bias = loss.head.bias.detach().clone().requires_grad_()
    weight = own + 0.3 * (1 - own)
    every = F.binary_cross_entropy_with_logits(64 * (cos - 0.4 * own) - bias, own, weight=weight, reduction="none")
    expected = every.sum(1).mean()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(loss.head.bias.grad, bias.grad)
    assert loss.stats()["bias"] == loss.head.bias


def test_unifaces_bias_starts_at_the_logarithm_of_ten_times_the_negatives() -> None:
    _, _, centres = data()
    for rate in (1.0, 0.1):
        bias = loss_with(build_head("uniface", rate=rate), centres).head.bias
        assert math.isclose(float(bias.detach()), math.log(10 * rate * len(centres)), rel_tol=1e-6)


def test_a_margin_that_changes_leaves_the_learned_bias() -> None:
    _, _, centres = data()
    head = loss_with(build_head("uniface"), centres).head
    torch.nn.init.constant_(head.bias, 3.5)
    head.margin = 0.2
    assert float(head.bias.detach()) == 3.5
