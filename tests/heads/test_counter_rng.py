"""Counter-based random numbers: a pure function of seed, step and index, and SplitMix64's own bits."""

from __future__ import annotations

import torch

from zoo.heads.counter_rng import _mix, random_bits, standard_normal, uniform

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """SplitMix64's finaliser in Python's own integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def test_the_bits_are_those_of_splitmix64() -> None:
    states = [0, 1, 0x9E3779B97F4A7C15, MASK, 1 << 63]
    signed = torch.tensor([state - (1 << 64) if state >> 63 else state for state in states])
    assert [value & MASK for value in _mix(signed).tolist()] == [splitmix(state) for state in states]
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF, "the generator's published first number for seed 0"


def test_a_part_of_the_indices_has_the_numbers_of_the_whole() -> None:
    step = torch.tensor(3)
    assert torch.equal(random_bits(7, step, 100)[31:57], random_bits(7, step, 26, first=31))
    assert torch.equal(uniform(7, step, 100)[31:57], uniform(7, step, 26, first=31))


def test_other_seeds_and_steps_give_other_numbers_strictly_between_0_and_1() -> None:
    draws = [uniform(seed, torch.tensor(step), 10_001) for seed in (0, 1) for step in (0, 1)]
    for i, one in enumerate(draws):
        assert one.min() > 0 and one.max() < 1
        assert abs(one.mean() - 0.5) < 5 / (12 * 10_001) ** 0.5
        assert not any(torch.equal(one, other) for other in draws[:i])


def test_normal_numbers_are_finite_with_mean_0_and_deviation_1() -> None:
    drawn = standard_normal(5, torch.tensor(2), 10_001)
    assert drawn.isfinite().all()
    assert abs(drawn.mean()) < 5 / 10_001**0.5 and abs(drawn.std() - 1) < 5 / (2 * 10_001) ** 0.5
