"""A face is drawn from its traits, and aligned whatever its pose."""

from __future__ import annotations

import dataclasses

import numpy as np

from zoo.data.synthetic.person import Draws, draw_identity, draw_shot
from zoo.data.synthetic.render import aligned, depth, render
from zoo.faces.align import ARCFACE_TEMPLATE


def test_a_turned_face_is_brought_near_the_landmarks_of_an_aligned_crop() -> None:
    for key in range(9):
        who, shot = draw_identity(Draws(0, 0, key)), draw_shot(Draws(0, 0, key, 1))
        a, b = aligned(who, shot)
        eyes = np.array([[-who.eye_gap, 0.0], [who.eye_gap, 0.0]])
        turned = np.concatenate([eyes, depth(eyes, who)[:, None]], axis=1) @ shot.turn.T
        placed = a * (turned[:, 0] + 1j * turned[:, 1]) + b
        target = ARCFACE_TEMPLATE[:2, 0] + 1j * ARCFACE_TEMPLATE[:2, 1]
        assert np.abs(placed - target).max() < 16


def test_identities_differ_in_shape_and_not_only_in_colour() -> None:
    """With one palette, pose, light and background, two people still differ by more than two levels a pixel."""
    model = draw_identity(Draws(0, 0, 0))
    palette = {name: getattr(model, name) for name in ("skin", "hair", "iris", "lips")}
    drawn = [
        render(dataclasses.replace(draw_identity(Draws(0, 0, person)), **palette), Draws(1), 112, 112).astype(float)
        for person in range(12)
    ]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert np.abs(one - other).mean() > 2
