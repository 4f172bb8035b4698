"""The reference form: exact softplus, directions, and what a block of no classes adds."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.heads import build_head
from zoo.heads.loss.dense import FORMS, Plan, directions, negatives_of, softplus, target_cosines


@pytest.mark.parametrize("gap", [-40.0, -19.0, 0.0, 19.0, 21.0, 30.0])
def test_softplus_is_exact_on_both_sides_of_torchs_threshold(gap: float) -> None:
    x = torch.tensor(gap, dtype=torch.float64, requires_grad=True)
    value = softplus(x)
    value.backward()
    assert value.item() == pytest.approx(math.log1p(math.exp(gap)), rel=1e-14)
    assert x.grad.item() == pytest.approx(1 / (1 + math.exp(-gap)), rel=1e-14)


def test_an_embedding_without_a_direction_gets_no_gradient_and_the_others_theirs() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-13, 0.0]], dtype=torch.float64, requires_grad=True)
    unit, norm = directions(x)
    assert unit.tolist() == [[0, 0], [0.6, 0.8], [0, 0]] and norm[1] == 5
    ((unit * torch.tensor([2.0, 1.0])).sum() + norm.sum()).backward()
    assert x.grad[0].tolist() == [0, 0] and x.grad[1].abs().sum() > 0 and x.grad.isfinite().all()


def test_a_number_that_is_none_stays_none() -> None:
    unit, _ = directions(torch.tensor([[math.nan, 1.0]]))
    assert unit.isnan().all()


@pytest.mark.parametrize("name", ["arcface", "uniface"])
def test_a_shard_without_classes_adds_nothing_and_is_part_of_the_graph(name: str) -> None:
    head, cosines = build_head(name), torch.empty(3, 0, requires_grad=True)
    column, boundary = torch.full((3,), -1), torch.zeros(3)
    found = negatives_of(cosines, column, boundary, head, Plan(4, 0, smooth=True))
    assert found.others.requires_grad and target_cosines(torch.ones(3, 2), torch.ones(0, 2), column, 1).tolist() == [
        0,
        0,
        0,
    ]
    assert found.total.tolist() == [0, 0, 0] and found.hard == 0
    some = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(FORMS[head.form].over_chunks(torch.stack([found.others, some])), some)
