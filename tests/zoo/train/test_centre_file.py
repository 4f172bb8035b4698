"""The class centres of a checkpoint as one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from zoo.errors import InputError


def test_class_centres_are_those_of_the_newest_checkpoint(trained: Path, tmp_path: Path) -> None:
    """Compared with a loss that took the whole state from the checkpoint."""
    import torch
    from safetensors.torch import load_file

    from zoo.train.build import build
    from zoo.train.centre_file import write_centres
    from zoo.train.config import load_config

    assert write_centres(trained, tmp_path / "head.safetensors") == (5, 2, 9)
    written = load_file(tmp_path / "head.safetensors")
    parts = build(load_config(trained / "config.yaml"), 5, torch.device("cpu"))
    before = parts.criterion.weight.clone()
    parts.restore(trained / "checkpoint")
    assert torch.equal(written["weight"], parts.criterion.weight) and not torch.equal(written["weight"], before)
    assert torch.equal(written["head.t"], parts.criterion.head.state_dict()["t"])
    assert set(written) == {"weight", "head.t"}


def test_class_centres_cut_over_processes_are_written_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tests.support.training import FP64, tiny, torchrun
    from zoo.train.centre_file import write_centres

    run = tmp_path / "runs/two"
    run.parent.mkdir()
    done = torchrun(tiny(**FP64, epochs=1), run, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert write_centres(run, tmp_path / "head.safetensors") == (5, 9)
    rows = load_file(tmp_path / "head.safetensors")["weight"]
    assert len({tuple(row.tolist()) for row in rows}) == 5 and bool((rows.norm(dim=1) > 0).all())


def test_class_centres_of_a_later_step_than_the_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    from zoo.train.centre_file import write_centres

    run = Path(shutil.copytree(trained, tmp_path / "run"))
    newest = max((run / "checkpoint").glob("step-*"))
    shutil.rmtree(newest)
    with pytest.raises(InputError, match="expected class centres of the same step"):
        write_centres(run, tmp_path / "head.safetensors")
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        write_centres(run, tmp_path / "head.safetensors")
    assert not (tmp_path / "head.safetensors").exists()
