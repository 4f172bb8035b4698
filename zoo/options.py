"""Options declared once, as fields of a dataclass, and the parser of a command line, with the options of several."""

import argparse
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from zoo.errors import InputError, closest

MODEL_HELP = "a run, its folder, an ONNX file, or owner/name[@revision] on the Hub"  #: In every command's help


def option(default: Any, told: str, metavar: str | None = None, rare: bool = False) -> Any:
    """A field with the line of the command's --help that describes it; a `rare` one has no line there."""
    from dataclasses import field  # slow to import: `zoo --help` does without

    return field(default=default, metadata={"help": told, "metavar": metavar, "rare": rare})


def given(args: argparse.Namespace, options: type[Any]) -> dict[str, Any]:
    """Those of the parsed `args` that are fields of `options`, a dataclass."""
    return {name: value for name, value in vars(args).items() if name in options.__dataclass_fields__}


def positive(text: str) -> int:
    """A whole number of at least 1, as an option's type."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)


def picture_name(text: str) -> str:
    """A file name that a picture can be written to, as an option's type."""
    if not text.lower().endswith((".png", ".jpg", ".jpeg")):
        raise argparse.ArgumentTypeError(f"expected a file name ending in .png or .jpg to draw into, found {text}")
    return text


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
        rules, told = ("largest", "central", "all"), f"which of several faces to take (default: {face})"
        self.add_argument("--face", choices=rules if every_face else rules[:2], default=face, help=told)

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

    def add_options(self, options: type[Any]) -> None:
        """A flag for every field of a dataclass that is an `option`; one that is not given sets nothing."""
        hints = typing.get_type_hints(options)
        for one in options.__dataclass_fields__.values():
            if "help" not in one.metadata:
                continue
            told, kind = one.metadata["help"], (*typing.get_args(hints[one.name]), hints[one.name])[0]
            known: dict[str, Any] = {"type": kind, "metavar": one.metadata["metavar"]}
            if kind is bool:
                # argparse reads --no-auth as the contrary of --auth
                known = {"action": "store_true" if one.name.startswith("no_") else argparse.BooleanOptionalAction}
            if one.default not in (None, False):
                told += f" (default: {'yes' if one.default is True else one.default})"
            told = argparse.SUPPRESS if one.metadata["rare"] else told
            self.add_argument(f"--{one.name.replace('_', '-')}", default=argparse.SUPPRESS, help=told, **known)
