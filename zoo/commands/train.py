"""Train a timm backbone with a margin head. The run folder holds all that is needed to repeat, resume and export it.

Without --data it trains on synthetic faces: enough to see everything work, useless for real people.

  zoo train resnet18 --head recurricularface --data faces/ --epochs 34
  zoo train --recipe quick-cpu --set lr=0.05 --name first
  zoo train --resume                      goes on with the newest run where it stopped
"""

import argparse
import json
import typing
from dataclasses import asdict
from typing import Any

from zoo.commands.options import Parser, training_bar
from zoo.errors import InputError
from zoo.files import json_safe
from zoo.train import config as options
from zoo.train.start import Interrupted, dry_run, first_process, resume, train


def add_arguments(parser: Parser) -> None:
    """The flags of `zoo train`, made from TrainConfig; each says the same as --set."""
    parser.add_argument("backbone", nargs="?", help=described("backbone"))
    others = [name for name in options.option_names(listed=False) if name != "backbone"]
    for name in [*options.option_names(listed=True), *others]:
        parser.add_argument(
            options.flag(name),
            dest="set",
            action="append",
            type=f"{name}={{}}".format,
            **dict[str, Any](nargs="?", const="true") if options.HINTS[name] is bool else {},
            metavar=metavar(options.HINTS[name]),
            help=argparse.SUPPRESS if name in others else described(name),
        )
    parser.add("--recipe NAME|FILE", "start from a packaged recipe (`zoo list recipes`) or a YAML file")
    usual = options.plain(options.TrainConfig())
    unlisted = ", ".join(f"{name}={str(usual[name]).lower()}" for name in others)
    any_option = "any option, as a flag of its name does; those without a line here, with their defaults"
    parser.add("--set key=value", f"{any_option}: {unlisted}", action="append")
    parser.set_defaults(set=[])
    parser.add_argument("--name", help="the run's name under runs/ (default: backbone, head and time)")
    parser.add("--resume RUN", "go on with a run (default: the newest)", nargs="?", const="")
    either = "go on with the run of --name if it is there, else start it: for the script of a job that may be requeued"
    parser.add("--resume-or-start", either)
    parser.add("--dry-run", "take one step, leave nothing, and tell its memory")
    parser.add("--quiet", "no progress on the terminal")
    parser.add_json("print the outcome as JSON")


def described(option: str) -> str:
    told, default = options.DESCRIPTIONS[option].removesuffix("."), getattr(options.TrainConfig(), option)
    told = told[0].lower() + told[1:] if told[1].islower() else told
    return told.replace("%", "%%") + ("" if default is None else f" (default: {default})")


def metavar(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    words: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}
    return words.get((*typing.get_args(hint), hint)[0], "true|false" if hint is bool else "VALUE")


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0, or 130, 143 or 129 when a signal stopped the run after saving it."""
    if args.resume is not None and (args.name or args.resume_or_start or args.dry_run):
        raise InputError(
            "expected --resume alone, found --name, --resume-or-start or --dry-run beside it; leave one out"
        )
    given: dict[str, Any] = {"backbone": args.backbone} if args.backbone else {}
    for assignment in args.set:
        options.set_option(given, assignment)
    try:
        if args.dry_run:
            found = dry_run(recipe=args.recipe, **given)
            told = f"{found.steps_per_epoch:,} steps per epoch, {found.total_steps:,} in all"
            text = f"one step takes {found.peak_bytes / 1e9:.2f} GB of memory at most; {told}"
            print(json.dumps(asdict(found)) if args.json else text)
            return 0
        with training_bar(args.quiet) as watch:
            if args.resume is None:
                again = args.resume_or_start
                trained = train(name=args.name, recipe=args.recipe, resume_or_start=again, watch=watch, **given)
            else:
                trained = resume(args.resume or None, recipe=args.recipe, watch=watch, **given)
    except Interrupted as stop:
        print(f"zoo: {stop}")
        return stop.exit_code
    if args.json and first_process():
        print(json.dumps(json_safe({"run": str(trained.run), **trained.record})))
    elif not args.quiet and first_process():
        print(f"trained {trained.run}; next: zoo export --onnx")
    return 0
