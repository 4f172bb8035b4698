"""MagFace: the smallest λ with an optimum inside the range of norms."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import InputError
from zoo.heads import build_head


def test_magface_refuses_a_lambda_without_an_optimum() -> None:
    with pytest.raises(InputError, match=r"lam of at least 22\.59, found 20"):
        build_head("magface", lam=20.0)
    build_head("magface", lam=22.6)


def test_at_magfaces_least_lambda_the_shortest_embedding_still_wants_to_grow() -> None:
    """The bound is where the penalty's slope at l_a balances the steepest cost of a wider margin, s·|dT/da| = s·k."""
    head = build_head("magface", lam=22.586667)
    a = torch.tensor([10.0001], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(head.penalty(a), a)
    assert slope.item() == pytest.approx(-head.scale * head.slope, rel=1e-3)
