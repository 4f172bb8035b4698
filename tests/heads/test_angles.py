"""Margins on angles: what each fallback does beyond π, and which negatives are hard."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.heads import build_head
from zoo.heads.angles import add_angle, angle, where_hard


@pytest.mark.parametrize("name", ["arcface", "curricularface", "recurricularface"])
def test_the_fallbacks_differ_only_where_they_say(name: str) -> None:
    m = 0.5
    cos = torch.tensor([0.9, 0.1, -0.1, -0.8, -0.95], dtype=torch.float64)
    theta, norm = cos.acos(), torch.ones(5)
    shifted = (theta + m).cos()
    beyond = theta > math.pi - m
    expected = {
        "none": shifted,
        "paper": torch.where(beyond, cos - m * math.sin(m), shifted),
        "easy": torch.where(cos > 0, shifted, cos),
    }
    assert beyond.tolist() == [False, False, False, False, True]
    for fallback, value in expected.items():
        torch.testing.assert_close(build_head(name, fallback=fallback).target(cos, norm), value)


@pytest.mark.parametrize("boundary", [-2.0, 0.1, 2.0])
def test_hard_cosines_are_modulated_with_the_gradient_of_the_plain_expression(boundary: float) -> None:
    generator = torch.Generator().manual_seed(0)
    cos = (2 * torch.rand(7, 11, generator=generator, dtype=torch.float64) - 1).requires_grad_()
    edge = torch.full((7, 1), boundary, dtype=torch.float64)
    cos.data[0, 0] = boundary  # not above the boundary
    for quadratic, linear, constant in ((1.1, 0.3, 0.0), (0.0, 1.2, 0.2), (1.0, torch.tensor(0.4), 0.0)):
        found = where_hard(cos, edge, quadratic=quadratic, linear=linear, constant=constant)
        expected = torch.where(cos > edge, quadratic * cos**2 + linear * cos + constant, cos)
        torch.testing.assert_close(found, expected)
        weights = torch.rand(7, 11, generator=generator, dtype=torch.float64)
        gradients = [torch.autograd.grad((weights * value).sum(), cos)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("cos", [1.0, -1.0])
def test_angles_have_a_finite_gradient_at_the_poles(cos: float) -> None:
    for function in (angle, lambda c: add_angle(c, 0.5), lambda c: add_angle(c, torch.tensor([0.5]))):
        leaf = torch.tensor([cos], requires_grad=True)
        (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
        assert gradient.isfinite().all()
