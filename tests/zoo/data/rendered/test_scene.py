"""A picture's camera, light and faults."""

from __future__ import annotations

from dataclasses import replace

import torch

from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.person import Draws, draw_people
from zoo.data.rendered.rig import CENTRE, LANDMARKS
from zoo.data.rendered.scene import (
    ABSENT,
    background,
    both_ways,
    draw_glasses,
    draw_hair,
    expression,
    grid,
    mouth_inside,
    optics,
    photograph,
    project,
)
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


PEOPLE = torch.arange(40)


def test_a_grid_joins_each_vertex_to_the_next_column_and_row() -> None:
    assert grid(3, 2, PEOPLE).tolist() == [[0, 1, 4, 3], [1, 2, 5, 4]]
    assert grid(3, 2, PEOPLE, closed=True).tolist() == [[0, 1, 4, 3], [1, 2, 5, 4], [2, 0, 3, 5]]


def test_hair_lies_outside_the_skull_and_bald_heads_have_none_on_top(faces: RenderedFaces) -> None:
    rig = faces.rig
    points = rig.mean.expand(len(PEOPLE), -1, -1)
    who = draw_people(rig, Draws(0, PEOPLE))
    (hair, _, _), scalp = draw_hair(rig, who, points, Draws(0, PEOPLE), Draws(1, PEOPLE))
    crown = (hair - torch.tensor(CENTRE)).norm(dim=2)[:, :160].mean(1)
    skull = (rig.mean - torch.tensor(CENTRE)).norm(dim=1)[rig.scalp & (rig.up > 80)].mean()
    bald = scalp[:, rig.scalp & (rig.up > 60) & (rig.up < 80) & (rig.mean[:, 2] > 4)].mean(1) < 0.2
    assert 0 < bald.sum() < 10 and (crown[bald] < skull).float().mean() > 0.5
    assert (crown[~bald] > skull).all() and scalp.min() >= 0 and scalp.max() <= 1
    women = replace(who, female=torch.ones_like(who.female))
    assert (draw_hair(rig, women, points, Draws(0, PEOPLE), Draws(1, PEOPLE))[1][:, rig.up > 85].mean(1) > 0.5).all()


def test_glasses_surround_the_eyes_of_those_who_wear_them(faces: RenderedFaces) -> None:
    points, worn = faces.rig.mean.expand(len(PEOPLE), -1, -1), PEOPLE % 2 == 0
    shown, quads, _ = draw_glasses(points, worn, Draws(0, PEOPLE))
    assert (shown[~worn] == ABSENT).all() and quads.max() < shown.shape[1]
    rim = shown[worn][:, :32]
    eye = points[0, LANDMARKS[36:42]]
    assert (rim[..., 0].amin(1) < eye[:, 0].min()).all() and (rim[..., 0].amax(1) > eye[:, 0].max()).all()


def test_teeth_lie_behind_the_lips(faces: RenderedFaces) -> None:
    points = faces.rig.mean[None]
    (found, quads, _), lips = mouth_inside(points), points[0, LANDMARKS[60:68]]
    assert found[..., 2].max() < lips[:, 2].max() and len(quads) == 4 * 5
