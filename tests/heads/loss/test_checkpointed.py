"""Heads with learnable parameters in chunks: the gradients of all of them, in bounded memory."""

from __future__ import annotations

import pytest
import torch

from tests.support.heads import Largest, Learned, data
from zoo.heads import MarginSoftmaxLoss

OPTIONS = [{}, {"sub_centres": 2}, {"label_smoothing": 0.1}, {"filter_above": 0.4}, {"sample_rate": 0.5}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunk_size", [1, 4, 50])
def test_everything_that_a_head_learns_gets_its_gradient_in_chunks(chunk_size: int, options: dict[str, float]) -> None:
    embeddings, labels, _ = data()
    seen = []
    for size in (None, chunk_size):
        head = Learned()
        loss = MarginSoftmaxLoss(head, 11, 5, seed=3, chunk_size=size, **options).double()
        x = embeddings.clone().requires_grad_()
        value = loss(x, labels)
        value.backward()
        assert all(p.grad is not None and p.grad.abs() > 0 for p in head.parameters())
        seen.append([value.detach(), x.grad, loss.weight.grad.to_dense(), *[p.grad for p in head.parameters()]])
        seen[-1].append(loss.stats()["hard_negative_share"])
    for expected, found in zip(*seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_matrix_of_cosines_is_never_whole() -> None:
    sizes = []
    for chunk_size in (100, None):
        loss = MarginSoftmaxLoss("uniface", 3000, 8, seed=0, chunk_size=chunk_size)
        with Largest() as largest:
            loss(torch.randn(64, 8, requires_grad=True), torch.arange(64)).backward()
        sizes.append(largest.size)
    assert sizes == [3000 * 8, 64 * 3000]  # the centres' gradient; the matrix
