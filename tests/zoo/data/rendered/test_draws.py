"""Random numbers by key."""

from __future__ import annotations

import torch

from zoo.data.rendered.person import AHEAD, Draws, stirred

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The reference implementation's output for a state, from the paper's listing."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_words_are_those_of_splitmix64() -> None:
    words = torch.tensor([0, 1, -1, 2**62, -(2**63), 123456789])
    assert [word & MASK for word in stirred(words).tolist()] == [splitmix64(word & MASK) for word in words.tolist()]


def test_numbers_do_not_depend_on_how_many_are_asked_for_at_once() -> None:
    people = torch.tensor([3, 9])
    whole, parts = Draws(5, people).uniform(3 * AHEAD), Draws(5, people)
    found = torch.cat([parts.uniform(count) for count in (1, 7, AHEAD, AHEAD + 3, 3 * AHEAD - 2 * AHEAD - 11)], 1)
    assert torch.equal(found, whole)


def test_an_images_numbers_do_not_depend_on_its_batch() -> None:
    together = Draws(1, torch.tensor([4, 5, 6])).normal(9)
    assert torch.equal(together[1:2], Draws(1, torch.tensor([5])).normal(9))
    assert not torch.equal(together[:1], together[1:2])


def test_every_part_of_a_key_counts() -> None:
    keys = [(0, 1), (1, 0), (0, 2), (2, 1)]
    found = {Draws(seed, torch.tensor([person])).uniform().item() for seed, person in keys}
    assert len(found) == len(keys)


def test_uniform_and_normal_numbers_have_their_moments() -> None:
    d = Draws(0, torch.tensor([1]))
    uniform, normal = d.uniform(40000, low=2.0, high=4.0), d.normal(40000, spread=3.0)
    assert uniform.min() >= 2 and uniform.max() < 4
    assert abs(uniform.mean() - 3) < 0.02 and abs(normal.mean()) < 0.06 and abs(normal.std() - 3) < 0.05
