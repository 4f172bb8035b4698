"""What several commands share: the parser with their common options, answers, notes and progress bars."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from zoo.errors import Exit, InputError, closest
from zoo.messages import log

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from zoo.inference.convention import GivenInput
    from zoo.recognition import FaceVerifier
    from zoo.train.watch import Standing, Watch

MODEL_HELP = "a run, its folder, an ONNX file, or owner/name[@revision] on the Hub"  #: In every command's help


def positive(text: str) -> int:
    """A whole number of at least 1, as an option's type."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, with the closest spelling of an unknown option.

    The description is printed as it is, and options are not abbreviated; both hold for the parsers of actions as well.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        kept = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **{**options, **kept})

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of a command line; InputError for one that is not known."""
        namespace, unknown = self.parse_known_args(words)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            close = closest(unknown[0].split("=")[0], known, most=2)
            hint = f" (did you mean {' or '.join(close)}?)" if close else ""
            self.error(f"did not expect {' '.join(unknown)}{hint}")
        return namespace

    def add(self, spelling: str, told: str, **options: Any) -> None:
        """An argument as its help spells it: "photos DIR", "-o --output FILE"; a flag without a value is a switch."""
        *names, last = spelling.split()
        if last.startswith("-"):
            self.add_argument(*names, last, help=told, action="store_true", **options)
        else:
            self.add_argument(*(names or [last]), metavar=last, help=told, **options)

    def add_json(self, told: str = "print one JSON object for a script") -> None:
        self.add("--json", told)

    def add_threads_argument(self) -> None:
        told = "CPU threads of a computation (default: the cores that the process may use)"
        self.add("--threads N", told, type=positive)

    def add_batch_arguments(self) -> None:
        """The options of every command that works through many photos."""
        self.add("--workers N", "threads that read and search photos (default: 2)", type=positive, default=2)
        self.add_threads_argument()
        self.add_json()

    def add_license_arguments(self) -> None:
        self.add("--license ID", "the license of the weights, as the Hub names it, or other")
        self.add("--license-name NAME", "with --license other: its name", default="")
        self.add("--license-link URL", "with --license other: its text", default="")

    def add_detector_arguments(self, every_face: bool = True, face: str = "largest") -> None:
        """The options of every command that finds faces in photos."""
        self.add("--detector PATH", "YuNet's ONNX file (default: the pinned one, from the Hugging Face Hub)")
        rules = ("largest", "central", "all") if every_face else ("largest", "central")
        self.add_argument(
            "--face", choices=rules, default=face, help=f"which of several faces to take (default: {face})"
        )

    def add_model_arguments(self, every_face: bool = True, face: str = "largest") -> None:
        """The options of every command that turns photos into embeddings."""
        self.add("--model MODEL", f"{MODEL_HELP} (default: the newest run with a model.onnx)")
        self.add_detector_arguments(every_face, face)
        self.add("--aligned", "take the pictures as aligned crops and detect no faces")
        self.add_input_arguments()

    def add_input_arguments(self) -> None:
        """What a user knows of a third-party model's input and output, over what is decided by its graph."""
        self.add("--mean X", "third-party model: subtracted from pixel values 0 … 255", type=float)
        self.add("--std X", "third-party model: what the difference is divided by", type=float)
        self.add("--bgr", "third-party model: the input is BGR")
        taken = any("--output" in action.option_strings for action in self._actions)
        flags = "--model-output NAME" if taken else "--model-output --output NAME"
        self.add(flags, "third-party model: which of its outputs is the embedding")

    def add_threshold_arguments(self, rate: str, told: str, draw: str) -> None:
        """The options of the commands that decide: a threshold or a rate, a drawing, and JSON."""
        self.add("--draw OUT.png", draw, type=picture_name)
        self.add(f"{rate} RATE", told, type=float)
        self.add("--threshold COSINE", "use this cosine similarity as the threshold instead", type=float)
        self.add_threads_argument()
        self.add_json()

    def add_options(self, options: type[DataclassInstance]) -> None:
        """A flag for every field of a dataclass that is a `zoo.options.option`; one that is not given sets nothing."""
        for name, hint in typing.get_type_hints(options).items():
            field = options.__dataclass_fields__[name]
            if "help" not in field.metadata:
                continue
            told, kind = field.metadata["help"], (*typing.get_args(hint), hint)[0]
            known: dict[str, Any] = {"type": kind, "metavar": field.metadata["metavar"]}
            if kind is bool:
                known = {"action": argparse.BooleanOptionalAction}
            if field.default not in (None, False):
                told += f" (default: {'yes' if field.default is True else field.default})"
            told = argparse.SUPPRESS if field.metadata["rare"] else told
            self.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=told, **known)


def given_input(args: argparse.Namespace) -> GivenInput | None:
    """What `add_input_arguments` asked for; None where nothing is given."""
    from zoo.inference.convention import GivenInput

    given = GivenInput(args.mean, args.std, args.bgr, args.model_output)
    return None if given == GivenInput() else given


def verifier_of(args: argparse.Namespace, **options: Any) -> FaceVerifier:
    """The verifier that `add_model_arguments` asked for."""
    from zoo.recognition import FaceVerifier

    limit_threads(args)
    options |= {"face": args.face, "aligned": args.aligned, "threads": args.threads, "input": given_input(args)}
    return FaceVerifier(args.model, args.detector, **options)


def limit_threads(args: argparse.Namespace) -> None:
    """From now on OpenCV uses the threads that `--threads` asks for, or the cores that this process may use."""
    import cv2

    from zoo.machine import cores

    cv2.setNumThreads(args.threads or cores())


def picture_name(text: str) -> str:
    """A file name that a picture can be written to, as an option's type."""
    if not text.lower().endswith((".png", ".jpg", ".jpeg")):
        raise argparse.ArgumentTypeError(f"expected a file name ending in .png or .jpg to draw into, found {text}")
    return text


def answer(args: argparse.Namespace, record: Mapping[str, Any], lines: Iterable[str]) -> Exit:
    """Prints the record for a script that asked for --json, else its notes and the lines for people."""
    print_notes([] if args.json else record.get("notes", ()))
    print(json.dumps(record, indent=2) if args.json else "\n".join(lines))
    return Exit.OK


def print_notes(notes: Sequence[str], most: int | None = None, where: str = "") -> None:
    """Prints notes on stderr; of more than `most`, the first ones and `where` the others are."""
    for note in notes[:most]:
        print(f"note: {note}", file=sys.stderr)
    if most is not None and len(notes) > most:
        print(f"note: and {len(notes) - most:,} more, listed in {where}", file=sys.stderr)


def given(args: argparse.Namespace, options: type[DataclassInstance]) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name in options.__dataclass_fields__}


@contextlib.contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the remaining time, advanced by the yielded function; no bar outside a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


@contextlib.contextmanager
def training_bar(quiet: bool) -> Iterator[Watch]:
    """A bar of a training's steps on stderr, with the figures of its last log line; outside a terminal a line a minute.

    What is logged meanwhile appears above it; warnings alone where all should be `quiet`.
    """
    from zoo.train.watch import facts, heartbeat, unwatched

    if quiet:
        log.setLevel(logging.WARNING)
    if quiet or not sys.stderr.isatty():
        yield unwatched if quiet else heartbeat()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("epoch {task.fields[epoch]}", BarColumn(bar_width=24), MofNCompleteColumn(), "{task.fields[facts]}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task("train", total=None, epoch="", facts="", visible=False)

        def show(now: Standing) -> None:
            epoch, figures = f"{now.epoch}/{now.epochs}", "  ".join(facts(now.record))
            progress.update(task, total=now.total_steps, completed=now.step, visible=True, epoch=epoch, facts=figures)

        yield show
