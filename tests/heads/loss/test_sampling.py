"""Sampled negatives: which classes take part in a step, and that the loss is the one over these classes alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.heads import OPTIMIZERS, batch
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head
from zoo.heads.loss.sampling import columns_of, sample_classes


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
    small.head.load_state_dict(loss.head.state_dict())
    value, expected = loss(embeddings.double(), labels), small(embeddings.double(), columns_of(labels, rows))
    torch.testing.assert_close(value, expected)
    value.backward(), expected.backward()
    gradient = loss.weight.grad
    assert gradient.is_sparse and torch.equal(gradient.coalesce().indices()[0], rows)
    torch.testing.assert_close(gradient.coalesce().values(), small.weight.grad)


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
