"""A run from its start to its end: what `zoo train` and `zoo train --resume` do, for programs too. Imports no torch."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.files import new_folder
from zoo.runs import RUNS, find_run, lock, room_to_write
from zoo.train.config import TrainConfig, build, changes, load_config, load_recipe, plain, save_config
from zoo.train.watch import Record, Watch, unwatched

TRIAL = "quick-cpu"
"""The recipe of a run without training data."""


@dataclass(frozen=True)
class Trained:
    """A run that came to its end."""

    run: Path
    """Its folder."""
    record: Record
    """The last line of its log, and the `validation` after it where there is one."""


def train(
    backbone: str | None = None,
    *,
    name: str | None = None,
    recipe: str | None = None,
    watch: Watch = unwatched,
    **options: Any,
) -> Trained:
    """Trains a new run in runs/NAME; by default it is called by backbone, head and time.

    `options` are those of TrainConfig, e.g. train("resnet18", head="arcface", data="faces/", epochs=20); they override
    those of the `recipe`, a packaged one's name or a YAML file. Without data it is a trial on synthetic faces.
    InputError for what the user can mend, before anything is written; Interrupted when a signal stopped the run.
    """
    given = {"backbone": backbone, **options} if backbone else options
    recipe = recipe or (None if "data" in given else TRIAL)
    values = {**(load_recipe(recipe) if recipe else {}), **given}
    if "data" not in values:
        raise InputError(
            f"expected --data with the recipe {recipe}, found none; `--data synthetic` tries it on synthetic faces"
        )
    config = build(values)
    run = RUNS / (name or f"{config.backbone}-{config.head}-{time.strftime('%Y%m%d-%H%M%S')}".translate(PLAIN))
    if run.parent != RUNS or run.name in ("", ".", ".."):
        raise InputError(f"expected --name to be a plain folder name, found {str(run)!r}; runs lie under {RUNS}/")
    if (run / "config.yaml").exists() and first_process():
        raise InputError(f"expected a new run, found one at {run}; give another --name, or --resume {run.name}")
    return Trained(run, train_in(run, config, watch=watch))


PLAIN = str.maketrans("/:", "--")
"""For folder names: what no name of a backbone or head may bring into them."""


def resume(
    run: str | Path | None = None, *, recipe: str | None = None, watch: Watch = unwatched, **options: Any
) -> Trained:
    """Goes on with a run, given by name or folder, where it stopped; None is the newest.

    `options` and those of the `recipe` may differ from the run's where they do not decide the weights. InputError for
    others, and as for `train`.
    """
    folder = find_run(run)
    saved = load_config(folder / "config.yaml")
    config = build({**plain(saved), **(load_recipe(recipe) if recipe else {}), **options})
    if changed := changes(saved, config):
        raise InputError(
            f"expected the options of {folder} to stay as they were, found other values for {', '.join(changed)};"
            " resume without them, or start a new run"
        )
    return Trained(folder, train_in(folder, config, resume=True, watch=watch))


def train_in(run: Path, config: TrainConfig, *, resume: bool = False, watch: Watch = unwatched) -> Record:
    """Trains by `config` in the folder `run`, under its lock; a new run leaves none before its first checkpoint.

    Of the processes that torchrun starts, the first one makes and locks the folder, and tells the others its name.
    """
    from zoo.train.loop import train

    here = replace(config, init=local(config.init, resume))
    if not first_process():
        return train(here, run, resume=resume)
    with room_to_write(run), new_folder(run, keep=lambda folder: (folder / "checkpoint").exists()), lock(run):
        if not resume:
            save_config(config, run / "config.yaml")
        return train(here, run, resume=resume, watch=watch)


def local(init: str, resume: bool) -> str:
    """The start of a run as a folder of this machine; a run that goes on has its own weights."""
    if resume:
        return "none"
    if init in ("none", "timm"):
        return init
    from zoo.resolve import torch_folder

    return str(torch_folder(init))


def first_process() -> bool:
    """Whether this process is alone or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
