"""Sampled negatives and the row-wise steps: what took part moves as it should, what did not stays bit-equal."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.heads import HEADS, MarginSoftmaxLoss, RowwiseAdamW, RowwiseSGD, build_head, clip_grad_norm
from zoo.heads.loss.sampling import columns_of, sample_classes

OPTIMIZERS = {
    "sgd": lambda params: RowwiseSGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: RowwiseSGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adamw": lambda params: RowwiseAdamW(params, lr=0.1, weight_decay=0.1),
}


def batch(size: int = 5, classes: int = 40, dim: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 20 * torch.randn(size, dim, generator=generator), torch.randint(classes, (size,), generator=generator)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    start=st.integers(0, 30),
    count=st.integers(1, 40),
    labels=st.lists(st.integers(0, 80), min_size=1, max_size=12),
    rate=st.floats(0.01, 1.0),
    step=st.integers(0, 5),
)
def test_a_sample_holds_every_positive_and_the_fraction_asked_for(
    start: int, count: int, labels: list[int], rate: float, step: int
) -> None:
    classes = range(start, start + count)
    rows = sample_classes(torch.tensor(labels), classes, rate, 3, torch.tensor(step)).tolist()
    positives = {label - start for label in labels if label in classes}
    assert positives <= set(rows) <= set(range(count))
    assert rows == sorted(set(rows))
    assert len(rows) == max(math.ceil(rate * count), len(positives))


def test_every_negative_is_drawn_equally_often() -> None:
    counts = torch.zeros(50)
    for step in range(2000):
        counts[sample_classes(torch.tensor([7]), range(50), 0.2, 1, torch.tensor(step))] += 1
    assert counts[7] == 2000
    others = torch.cat([counts[:7], counts[8:]])
    expected = 2000 * 9 / 49
    assert (others - expected).abs().max() < 5 * math.sqrt(expected)


def test_columns_are_places_among_the_rows_or_minus_one() -> None:
    assert columns_of(torch.tensor([3, 0, 9, 5, -4]), torch.tensor([0, 3, 5])).tolist() == [1, 0, -1, 2, -1]
    assert columns_of(torch.tensor([3]), torch.empty(0, dtype=torch.int64)).tolist() == [-1]


@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize("name", list(HEADS))
def test_a_sampled_loss_equals_the_loss_over_the_sampled_classes_alone(name: str, chunk_size: int | None) -> None:
    loss = MarginSoftmaxLoss(build_head(name), 40, 6, sample_rate=0.3, chunk_size=chunk_size, seed=2).double()
    embeddings, labels = batch()
    rows = sample_classes(labels, range(40), 0.3, 2, torch.tensor(0))
    small = MarginSoftmaxLoss(build_head(name), len(rows), 6, chunk_size=None).double()
    small.weight.data.copy_(loss.weight.data[rows])
    small.head.bind(40, 6)
    value, expected = loss(embeddings.double(), labels), small(embeddings.double(), columns_of(labels, rows))
    torch.testing.assert_close(value, expected)
    value.backward(), expected.backward()
    gradient = loss.weight.grad
    assert gradient.is_sparse and torch.equal(gradient.coalesce().indices()[0], rows)
    torch.testing.assert_close(gradient.coalesce().values(), small.weight.grad)


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


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("name", list(HEADS))
def test_training_continues_bit_equal_from_a_saved_state(optimizer: str, name: str) -> None:
    def fresh() -> tuple[MarginSoftmaxLoss, torch.optim.Optimizer]:
        loss = MarginSoftmaxLoss(build_head(name), 40, 6, sample_rate=0.3, chunk_size=5, seed=1)
        return loss, OPTIMIZERS[optimizer]([loss.weight])

    def train(loss: MarginSoftmaxLoss, step: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            step.zero_grad()
            loss(*batch(seed=seed)).backward()
            step.step()

    whole = fresh()
    train(*whole, range(2))
    saved = copy.deepcopy((whole[0].state_dict(), whole[1].state_dict()))
    train(*whole, range(2, 4))
    resumed = fresh()
    resumed[0].load_state_dict(saved[0]), resumed[1].load_state_dict(saved[1])
    train(*resumed, range(2, 4))
    for key, value in whole[0].state_dict().items():
        assert torch.equal(value, resumed[0].state_dict()[key]), key


def test_evaluation_uses_every_class() -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 40, 6, sample_rate=0.1, seed=1).eval()
    whole = MarginSoftmaxLoss(build_head("arcface"), 40, 6, seed=1).eval()
    assert torch.equal(loss(*batch()), whole(*batch()))


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
