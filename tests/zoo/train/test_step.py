"""A step is the same however its batch is divided, and draws anew in every pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.training import FP64, start, tiny, weights
from zoo.train.loop import train
from zoo.train.step import dropout_seed


def test_passes_that_share_a_step_move_the_weights_as_one_pass_does(tmp_path: Path) -> None:
    whole, shared, other = (
        tiny(**{**FP64, "head": "arcface", **more}, epochs=1, data="synthetic:5x6")
        for more in ({}, {"accumulate": 3}, {"batch_size": 3})
    )
    runs = [start(config, tmp_path / str(number)) for number, config in enumerate((whole, shared, other))]
    for config, run in zip((whole, shared, other), runs, strict=True):
        train(config, run)
    one, three, half = map(weights, runs)
    assert all(np.allclose(one[name], three[name], rtol=1e-9, atol=1e-12) for name in one)
    assert any(not np.allclose(one[name], half[name], rtol=1e-9, atol=1e-12) for name in one)  # the twin: other steps


def test_every_pass_of_every_process_draws_its_own() -> None:
    seeds = {dropout_seed(seed, number, rank) for seed in range(5) for number in range(500) for rank in range(8)}
    assert len(seeds) == 5 * 500 * 8
    assert dropout_seed(1, 2, 3) == (1_000_003 + 2) * 65_537 + 3  # what runs of today resume with
