"""The row-wise optimizers: rows with a gradient are updated as torch does it, the others stay bit-equal."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from tests.support.heads import OPTIMIZERS, batch
from zoo.heads import MarginSoftmaxLoss, build_head, clip_grad_norm


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("sub_centres", [1, 3])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_a_centre_that_was_not_sampled_does_not_move_at_all(
    optimizer: str, sub_centres: int, chunk_size: int | None
) -> None:
    loss = MarginSoftmaxLoss(
        build_head("recurricularface"), 40, 6, sample_rate=0.2, sub_centres=sub_centres, chunk_size=chunk_size
    )
    step = OPTIMIZERS[optimizer]([loss.weight])
    for seed in range(6):
        embeddings, labels = batch(seed=seed)
        before = [loss.weight.detach().clone(), *(copy.deepcopy(b) for b in step.state[loss.weight].values())]
        step.zero_grad()
        loss(embeddings, labels).backward()
        sampled = loss.weight.grad.coalesce().indices()[0]
        step.step()
        after = [loss.weight.detach(), *step.state[loss.weight].values()]
        still = torch.ones(40, dtype=torch.bool)
        still[sampled] = False
        assert 0 < len(sampled) <= 8 and still.any()
        for old, new in zip(before, after, strict=False):
            assert torch.equal(old[still], new[still])
        assert (before[0][labels] != after[0][labels]).flatten(1).any(1).all()


def test_the_twin_of_that_test_fails_with_torchs_own_dense_step() -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 40, 6, sample_rate=0.2)
    step = torch.optim.SGD([loss.weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    before = loss.weight.detach().clone()
    loss(*batch()).backward()
    sampled = loss.weight.grad.coalesce().indices()[0]
    loss.weight.grad = loss.weight.grad.to_dense()
    step.step()
    still = torch.ones(40, dtype=torch.bool)
    still[sampled] = False
    assert not torch.equal(before[still], loss.weight.detach()[still])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
        ("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1)),
    ],
)
def test_with_dense_gradients_the_steps_are_torchs_own(ours: str, theirs: object) -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(33, 7, dtype=torch.float64)) for _ in range(2))
    first, second = OPTIMIZERS[ours]([a]), theirs([b])
    for _ in range(5):
        a.grad = torch.randn(33, 7, dtype=torch.float64)
        b.grad = a.grad.clone()
        first.step(), second.step()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_step_that_is_not_finite_is_withheld_on_the_device(optimizer: str) -> None:
    loss = MarginSoftmaxLoss(build_head("recurricularface"), 40, 6, sample_rate=0.2)
    step = OPTIMIZERS[optimizer]([loss.weight])
    loss(*batch()).backward()
    step.step(finite=loss.finite)
    before = [loss.weight.detach().clone(), *(b.clone() for b in step.state[loss.weight].values())]
    embeddings, labels = batch(seed=1)
    embeddings[2, 3] = math.nan
    step.zero_grad()
    loss(embeddings, labels).backward()
    step.step(finite=loss.finite)
    after = [loss.weight.detach(), *step.state[loss.weight].values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_the_clip_norm_is_torchs_own_over_dense_and_sparse_gradients() -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 40, 6, sample_rate=0.3)
    backbone = torch.nn.Linear(6, 6)
    embeddings, labels = batch()
    loss(backbone(embeddings), labels).backward()
    gradients = [p.grad.to_dense().clone() for p in [*backbone.parameters(), loss.weight]]
    twins = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for twin, gradient in zip(twins, gradients, strict=True):
        twin.grad = gradient
    expected = torch.nn.utils.clip_grad_norm_(twins, 0.5)
    norm = clip_grad_norm(backbone.parameters(), [loss.weight], 0.5)
    torch.testing.assert_close(norm, expected)
    for p, twin in zip([*backbone.parameters(), loss.weight], twins, strict=True):
        torch.testing.assert_close(p.grad.to_dense(), twin.grad)
