"""Hair, the mouth's inside and glasses."""

from __future__ import annotations

from dataclasses import replace

import torch

from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.draws import Draws
from zoo.data.rendered.extras import ABSENT, draw_glasses, draw_hair, grid, mouth_inside
from zoo.data.rendered.person import draw_people
from zoo.data.rendered.rig import CENTRE, LANDMARKS

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
