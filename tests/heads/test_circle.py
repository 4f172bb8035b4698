"""Circle loss: its weights have no gradient."""

from __future__ import annotations

import pytest
import torch

from zoo.heads import build_head


def test_circles_forces_carry_no_gradient() -> None:
    head = build_head("circle")
    cos = torch.tensor([0.6], requires_grad=True)
    (pull,) = torch.autograd.grad(head.target(cos, torch.ones(1)).sum(), cos)
    (push,) = torch.autograd.grad(head.negative(cos, cos).sum(), cos)
    assert (pull.item(), push.item()) == pytest.approx((1.25 - 0.6, 0.6 + 0.25))
