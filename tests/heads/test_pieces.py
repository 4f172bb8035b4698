"""What a head declares for a kernel is what its `negative` computes, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.heads import HEADS, MarginHead, Pieces, build_head

SETTINGS = [(name, {}) for name in HEADS] + [("recurricularface", {"modulate": "all"})]


def by_hand(pieces: Pieces, cos: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
    """(N, dN/dc), as a kernel would compute them from the coefficients alone."""
    threshold = boundary if pieces.above is None else pieces.above
    value = pieces.quadratic * cos**2 + pieces.linear * cos + pieces.constant
    u, v = pieces.slope or (2 * pieces.quadratic, pieces.linear)
    slope = u * cos + v
    if pieces.power is not None:
        half, power = (cos + 1) / 2, pieces.power
        value = pieces.quadratic * half**power + pieces.linear * cos + pieces.constant
        slope = pieces.quadratic * power / 2 * half ** (power - 1) + pieces.linear
    below = torch.full_like(cos, pieces.below)
    return torch.where(cos > threshold, value, below * cos), torch.where(cos > threshold, slope, below)


@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)
def test_the_pieces_of_a_head_are_its_negative(name: str, options: dict[str, str]) -> None:
    head = build_head(name, **options).double()
    for buffer in head.buffers():
        if buffer.is_floating_point():
            buffer.fill_(0.3)
    pieces = head.pieces()
    assert pieces is not None, "every published head can be compiled"
    cos = torch.linspace(-1, 1, 201, dtype=torch.float64).expand(3, -1).clone().requires_grad_()
    boundary = torch.tensor([[-0.5], [0.113], [0.9]], dtype=torch.float64)
    value, slope = by_hand(pieces, cos.detach(), boundary)
    found = head.negative(cos, boundary)
    torch.testing.assert_close(found.detach(), value, rtol=0, atol=1e-14)
    torch.testing.assert_close(pieces.evaluate(cos, boundary).detach(), value, rtol=0, atol=1e-14)
    for n in (found, pieces.evaluate(cos, boundary)):
        torch.testing.assert_close(torch.autograd.grad(n.sum(), cos)[0], slope, rtol=0, atol=1e-14)


def test_a_head_that_writes_its_own_negative_has_no_pieces() -> None:
    class Cubic(MarginHead):
        def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
            return cos_j**3

    assert Cubic(scale=8.0).pieces() is None
    assert MarginHead(scale=8.0).pieces() == Pieces() and Pieces().unchanged
    assert not Pieces(linear=torch.tensor(1.0)).unchanged


def test_second_derivatives_of_hard_negatives_equal_finite_differences() -> None:
    head = build_head("recurricularface").double()
    cos = torch.tensor([[0.9, 0.1, 0.5]], dtype=torch.float64, requires_grad=True)
    boundary = torch.tensor([[0.3]], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda c: head.negative(c, boundary), cos)
