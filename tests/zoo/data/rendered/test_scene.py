"""A picture's camera, light and faults."""

from __future__ import annotations

import torch

from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.draws import Draws
from zoo.data.rendered.rig import LANDMARKS
from zoo.data.rendered.scene import background, both_ways, expression, optics, photograph, project
from zoo.faces.align import ARCFACE_TEMPLATE

MANY = torch.arange(200)


def test_five_landmarks_lie_where_a_detector_puts_them(faces: RenderedFaces) -> None:
    points = faces.rig.mean.expand(len(MANY), -1, -1)
    plane = project(points, points[:, LANDMARKS], Draws(0, MANY))
    marks = plane[:, LANDMARKS, :2]
    five = torch.stack([marks[:, 36:42].mean(1), marks[:, 42:48].mean(1), marks[:, 30], marks[:, 48], marks[:, 54]], 1)
    apart = five - torch.tensor(ARCFACE_TEMPLATE).float()
    assert apart.mean((0, 1)).abs().max() < 1 and apart.norm(dim=2).median() < 6
    assert (plane[:, :, 2].std(1) > 3).all()  # the depth stays


def test_expressions_are_shares_and_mostly_the_same_on_both_sides(faces: RenderedFaces) -> None:
    weights = expression(faces.rig, Draws(0, MANY))
    assert weights.min() >= 0 and weights.max() <= 1 and (weights > 0).any(0).all()
    left, right = (weights[:, faces.rig.expressions[f"mouthSmile_{side}"]] for side in "LR")
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.9 and not torch.equal(left, right)


def test_an_optic_keeps_the_sum_of_light() -> None:
    found = optics(Draws(0, MANY), 72, 48)
    assert found.shape == (200, 48, 72) and found.min() >= 0
    torch.testing.assert_close(found.sum(2), torch.ones(200, 48), atol=1e-4, rtol=0)


def test_both_ways_is_a_sum_over_rows_and_columns() -> None:
    picture, down, across = torch.rand(2, 4, 5, 3), torch.rand(2, 6, 4), torch.rand(7, 5)
    expected = torch.einsum("bhwc,brh,kw->brkc", picture, down, across)
    torch.testing.assert_close(both_ways(down, picture, across), expected)


def test_a_photograph_shows_what_is_covered_before_its_background() -> None:
    who = torch.arange(64)
    covered = torch.zeros(64, 72, 72, dtype=torch.bool)
    covered[:, 20:50, 20:50] = True
    light = torch.tensor([0.5, 0.4, 0.3]).expand(64, 72, 72, 3)
    found = photograph(light, covered, torch.zeros(64, 72, 72, 3), Draws(0, who), 48).float()
    assert found.shape == (64, 48, 48, 3)
    assert (found[:, 18:28, 18:28].mean((1, 2, 3)) > found[:, :8, :8].mean((1, 2, 3)) + 5).float().mean() > 0.9
    grey = (found.amax(3) - found.amin(3)).amax((1, 2)) <= 1
    assert 0.35 < grey.float().mean() < 0.75


def test_backgrounds_are_pictures_and_differ() -> None:
    found = background(Draws(0, torch.arange(16)), 32)
    assert found.shape == (16, 32, 32, 3) and found.min() >= 0 and found.max() <= 1
    assert (found.std((1, 2, 3)) > 0.005).all() and not torch.equal(found[0], found[1])
