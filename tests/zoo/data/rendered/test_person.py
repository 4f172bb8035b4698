"""Who is rendered, and the colours of a day."""

from __future__ import annotations

from dataclasses import replace

import torch

from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.facekit import HEAD
from zoo.data.rendered.person import Draws, choose, draw_people, paint

PEOPLE = torch.arange(30)


def test_a_row_is_chosen_as_often_as_its_weight_says() -> None:
    d, one = Draws(0, torch.arange(4000)), torch.ones(4000, 1)
    rows = choose(d, ((1, 1, 1), (10, 10, 10), (100, 100, 100)), one, 0 * one, 3 * one)[:, 0]
    assert ((rows > 2) & (rows < 50)).sum() == 0 and abs((rows > 50).float().mean() - 0.75) < 0.03


def test_skins_are_colours_from_light_to_dark(faces: RenderedFaces) -> None:
    who = draw_people(faces.rig, Draws(0, PEOPLE))
    means = who.skin[:, :HEAD].mean(1)
    assert who.skin.min() >= 0 and who.skin.max() < 2
    assert (means[:, 0] > means[:, 1]).all() and (means[:, 1] > means[:, 2] * 0.9).all()
    assert means[:, 0].max() > 2 * means[:, 0].min()


def test_men_alone_have_beards(faces: RenderedFaces) -> None:
    who = draw_people(faces.rig, Draws(0, PEOPLE))
    none = torch.zeros(len(PEOPLE), len(faces.rig.mean))
    for female in (True, False):
        all_one = replace(who, female=torch.full_like(who.female, female))
        first, second = (paint(faces.rig, all_one, none, Draws(seed, PEOPLE), Draws(9, PEOPLE)) for seed in (1, 2))
        assert torch.equal(first, second) == female


def test_hair_covers_the_scalp_where_it_is(faces: RenderedFaces) -> None:
    who = draw_people(faces.rig, Draws(0, PEOPLE))
    scalp = faces.rig.scalp.float().expand(len(PEOPLE), -1)
    found = paint(faces.rig, who, scalp, Draws(1, PEOPLE), Draws(2, PEOPLE))
    top = (faces.rig.up > 60).nonzero()[:, 0]
    torch.testing.assert_close(found[:, top], (who.hair[:, None] * 0.45).expand(-1, len(top), -1))
