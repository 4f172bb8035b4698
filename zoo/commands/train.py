"""Train a timm backbone with a margin head. The run folder holds all that is needed to repeat, resume and export it.

Without --data it trains on drawn faces, which are no faces: enough to see everything work, useless for people.

  zoo train resnet18 --head recurricularface --data faces/ --epochs 34
  zoo train --recipe quick-cpu --set lr=0.05 --name first
  zoo train --resume                      goes on with the newest run where it stopped
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import time
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import runs
from zoo.errors import InputError
from zoo.train import config as options

TRIAL = "quick-cpu"
"""The recipe of `zoo train` without --data."""

SYNTHETIC = "training on drawn faces, which are not faces: the model will know no person{recipe}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo train`, made from TrainConfig."""
    usual = options.plain(options.TrainConfig())
    parser.add_argument("backbone", nargs="?", help=described("backbone"))
    for name in options.option_names(listed=True):
        parser.add_argument(options.flag(name), metavar=metavar(options.hints()[name]), help=described(name))
    others = [name for name in options.option_names(listed=False) if name != "backbone"]
    parser.add_argument(*map(options.flag, others), action=Assign, help=argparse.SUPPRESS)
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="start from a packaged recipe (`zoo list recipes`) or a YAML file",
    )
    parser.add_argument(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        help="any option, as a flag of its name does; those without a line here, with their defaults: "
        + ", ".join(f"{name}={str(usual[name]).lower()}" for name in others),
    )
    parser.add_argument("--name", help="the run's name under runs/; default: backbone, head and time")
    parser.add_argument("--resume", nargs="?", const="", metavar="RUN", help="go on with a run; default: the newest")
    parser.add_argument("--quiet", action="store_true", help="no progress on the terminal")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def described(option: str) -> str:
    """An option's line in the help."""
    told, default = options.descriptions()[option].removesuffix("."), getattr(options.TrainConfig(), option)
    told = told[0].lower() + told[1:] if told[1].islower() else told
    return told.replace("%", "%%") + ("" if default is None else f" (default: {default})")


class Assign(argparse.Action):
    """The flag of an option that the help does not list: the same as --set."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.set = [*namespace.set, f"{str(option_string).removeprefix('--')}={values}"]


def metavar(hint: Any) -> str:
    """What stands for a flag's value in the help."""
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    words: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}
    return words.get(hint) or words.get(typing.get_args(hint)[0], "VALUE")


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0, or 130 / 143 when a signal stopped the run after saving it."""
    given = overrides(args)
    if args.resume is not None:
        folder = runs.find_run(args.resume or None)
        saved = options.load_config(folder / "config.yaml")
        recipe_values = options.load_recipe(args.recipe) if args.recipe else {}
        config = options.build({**options.plain(saved), **recipe_values, **given})
        changed = options.changes(saved, config)
        if changed:
            raise InputError(
                f"expected the options of {folder} to stay as they were, found other values for {', '.join(changed)};"
                " resume without them, or start a new run"
            )
    else:
        recipe = args.recipe or (None if "data" in given else TRIAL)
        values = {**(options.load_recipe(recipe) if recipe else {}), **given}
        if "data" not in values:
            raise InputError(
                f"expected --data with the recipe {recipe}, found none; `--data synthetic` tries it on drawn faces"
            )
        if values["data"].split(":")[0] == "synthetic" and not args.quiet:
            print(SYNTHETIC.format(recipe=f", recipe {recipe}" if recipe else ""), flush=True)
        config = options.build(values)
        when = time.strftime("%Y%m%d-%H%M%S")
        folder = runs.RUNS / (
            args.name or f"{config.backbone}-{config.head}-{when}".replace("/", "-").replace(":", "-")
        )
        if first_process():
            check_name(config, folder)
    return fit(config, folder, resume=args.resume is not None, args=args)


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line gives."""
    given: dict[str, Any] = {}
    if args.backbone:
        given["backbone"] = args.backbone
    given |= {name: text for name in options.option_names(listed=True) if (text := getattr(args, name)) is not None}
    for assignment in args.set:
        options.set_option(given, assignment)
    return given


def local(init: str, resume: bool) -> str:
    """The start of a run as a folder of this machine: a Hub id is pulled; a run that goes on has its own weights."""
    if resume:
        return "none"
    if init in ("none", "timm"):
        return init
    from zoo.resolve import torch_folder

    return str(torch_folder(init))


def check_name(config: options.TrainConfig, folder: Path) -> None:
    """Refuses a name that is no folder's, and a folder that is a run already, before anything slow is imported."""
    if folder.parent != runs.RUNS or folder.name in ("", ".", ".."):
        raise InputError(
            f"expected --name to be a plain folder name, found {str(folder)!r}; runs lie under {runs.RUNS}/"
        )
    if (folder / "config.yaml").exists():
        raise InputError(f"expected a new run, found one at {folder}; give another --name, or --resume {folder.name}")


def fit(config: options.TrainConfig, folder: Path, *, resume: bool, args: argparse.Namespace) -> int:
    """Runs the loop in `folder`, under its lock; a run that was refused before its first step leaves no folder.

    Of the processes that torchrun starts, the first one makes and locks the folder, and tells the others its name.
    """
    from zoo.train.loop import train
    from zoo.train.signals import Interrupted

    here = replace(config, init=local(config.init, resume))
    try:
        if not first_process():
            train(here, folder, resume=resume, quiet=True)
            return 0
        with runs.room_to_write(folder), made(folder), runs.lock(folder):
            if not resume:
                options.save_config(config, folder / "config.yaml")
            result = train(here, folder, resume=resume, quiet=args.quiet)
    except Interrupted as stop:
        print(f"zoo: {stop}")
        return stop.exit_code
    if args.json:
        print(json.dumps({"run": str(folder), **result}))
    elif not args.quiet:
        print(f"trained {folder}; next: zoo export --onnx")
    return 0


def first_process() -> bool:
    """Whether this process is alone or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """A run's folder, taken away again where the run was new and was refused before its first checkpoint."""
    new, first = not folder.exists(), not folder.parent.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except (InputError, OSError):
        if new and not (folder / "checkpoint").exists():
            shutil.rmtree(folder)
            if first and not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        raise
