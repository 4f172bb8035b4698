"""Traits come from a key alone, and no person is in two splits."""

from __future__ import annotations

import numpy as np

from zoo.data.synthetic.person import Draws, draw_identity, draw_shot


def test_draws_depend_on_their_key_alone_and_stay_in_their_range() -> None:
    first, again, other = Draws(1, 2, 3), Draws(1, 2, 3), Draws(1, 2, 4)
    found = [first.between(-2, 5) for _ in range(100)]
    assert found == [again.between(-2, 5) for _ in range(100)] and found[0] != other.between(-2, 5)
    assert all(-2 <= value < 5 for value in found)
    more = Draws(9)
    assert all(abs(more.bell(0.5)) < 0.5 for _ in range(20)) and {more.below(3) for _ in range(60)} == {0, 1, 2}


def test_a_turn_is_a_rotation() -> None:
    for key in range(9):
        turn = draw_shot(Draws(key)).turn
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) > 0


def test_train_test_and_seeds_share_no_person() -> None:
    people = [draw_identity(seed, split, person) for seed in (0, 1, 2) for split in (0, 1) for person in range(60)]
    traits = np.array([[p.cheek, p.chin, p.eye_gap, p.nose_length, p.mouth_width, p.brow_height] for p in people])
    spread = traits.std(axis=0)
    distance = np.linalg.norm((traits[:, None] - traits[None]) / spread, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.1
