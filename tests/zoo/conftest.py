"""Fixtures that the tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with sub-centres, of two epochs, with a checkpoint at the end of each."""
    from tests.support.training import start, tiny
    from zoo.train.loop import train

    config = tiny(epochs=2, checkpoint_every=7, keep=9, centres={"sub_centres": 2, "sample_rate": 0.9})
    run = start(config, tmp_path_factory.mktemp("trained") / "run")
    train(config, run)
    return run
