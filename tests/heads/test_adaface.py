"""AdaFace: its clipped angle, its running statistics of norms, its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.heads import build_head


def test_adafaces_clip_is_that_of_the_angle_without_an_acos() -> None:
    head = build_head("adaface", margin=1.2)
    head.norm_mean.fill_(20), head.norm_std.fill_(1)
    theta = torch.linspace(0.002, math.pi - 0.002, 101, dtype=torch.float64)
    for norm, z in ((0.001, -1.0), (20.0, 0.0), (22.0, 0.333 * 2 / 1.001), (100.0, 1.0)):
        target = head.target(theta.cos(), torch.full_like(theta, norm))
        expected = (theta - 1.2 * z).clamp(1e-3, math.pi - 1e-3).cos() - (1.2 + 1.2 * z)
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-6)


def test_adaface_keeps_its_deviation_through_a_batch_of_one() -> None:
    head = build_head("adaface")
    head.update(torch.tensor([0.5]), torch.tensor([30.0]))
    assert head.norm_std.item() == 100 and head.norm_mean.item() == pytest.approx(20.1)


def test_adaface_gives_the_norm_no_gradient_and_magface_does() -> None:
    for name, has in (("adaface", False), ("magface", True)):
        norm = torch.tensor([30.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(
            build_head(name).target(torch.tensor([0.5], requires_grad=True), norm).sum(), norm, allow_unused=True
        )
        assert (gradient is not None and gradient.item() != 0) is has
