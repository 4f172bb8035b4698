"""The `zoo` command: finds the command's module, runs it, and turns every outcome into an exit code.

Exit codes: 0 done (verify: same person), 1 verify: different people, audit: another figure, 2 wrong input, 3 no
verdict, 70 our own fault, 130 interrupted. Each command is a module of `zoo.commands` with `add_arguments(parser)` and
`run(args) -> int`; only the one that was named is imported, so that `zoo --help` is instant.
"""

import argparse
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from zoo import __version__
from zoo.errors import Exit, InputError, closest, unknown_name
from zoo.machine import cores
from zoo.messages import Lines, log

COMMANDS = {
    "train": "train a timm backbone with a margin head",
    "export": "export a trained model to ONNX and prove that it computes the same",
    "inspect": "describe an ONNX model and warn of what looks wrong",
    "evaluate": "measure a model on a benchmark through ONNX Runtime",
    "audit": "measure a published model again and compare with what is claimed of it",
    "reproduce": "train several heads under equal conditions and tabulate the results",
    "verify": "decide whether two photos show the same person",
    "identify": "find the people of a gallery in a photo",
    "index": "build, extend and prune a gallery of known people",
    "migrate": "move a gallery to another model",
    "embed": "compute the embeddings of photos, with boxes, landmarks and quality",
    "cluster": "sort faces without names into people",
    "serve": "serve verification and a gallery over HTTP, with a page to try them in",
    "align": "crop and align the faces of photos, ready for training",
    "push": "publish a run on the Hugging Face Hub",
    "pull": "fetch and check a model from the Hugging Face Hub",
    "card": "write the model card of a run",
    "adopt": "take in a model that others trained, from their checkpoint",
    "list": "list heads, backbones, protocols, recipes, models and runs",
    "data": "inspect, check and convert datasets and benchmarks",
}  #: Every command and what it does, in the order of `zoo --help`; `zoo.commands.NAME` implements it


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


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  zoo {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    first = "  zoo train resnet18 --head recurricularface && zoo export --onnx"
    example = ["", "Each command has --help with an example. First steps:", first]
    return "\n".join(["zoo: face recognition as a timm plugin", "", *lines, *example])


def run(argv: Sequence[str]) -> int:
    """Runs one command line; InputError for what the user can mend."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return Exit.OK
    if argv[0] in ("-V", "--version"):
        print(f"zoo {__version__}")
        return Exit.OK
    name, *rest = argv
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    command = importlib.import_module(f"zoo.commands.{name}")
    parser = Parser(f"zoo {name}", None, command.__doc__)
    command.add_arguments(parser)
    args = parser.parse(rest)
    with limited_threads(getattr(args, "threads", None)):
        return int(command.run(args))


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Gives all libraries that many threads while the block runs, or else the cores of a container's quota.

    They read OMP_NUM_THREADS when they are loaded, or ask `zoo.machine.cores`, which reads it too.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    if threads or (before is None and cores() < (os.cpu_count() or 1)):
        os.environ["OMP_NUM_THREADS"] = str(threads or cores())
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS", None)
        os.environ |= {"OMP_NUM_THREADS": before} if before is not None else {}


def console() -> NoReturn:
    """The script `zoo`: `main` in a process of its own.

    `zoo verify` multiplies no large matrices, and numpy's threads for them busy-wait on the cores that the detector
    needs. Nothing is left to do once it has answered; to free what the libraries hold would take a tenth of its time.
    """
    brief = sys.argv[1:2] == ["verify"]
    if brief:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = main()
    if brief:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """A command line: every outcome becomes an exit code, every wrong input and log message a line on stderr."""
    handler, level = Lines(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return outcome(sys.argv[1:] if argv is None else argv)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def outcome(argv: Sequence[str]) -> int:
    """Runs one command line and turns every exception into its exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version at import
    try:
        status = run(argv)
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return Exit.WRONG_INPUT
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as `zoo list heads | head -1` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            f"zoo: this is a fault of zoo {__version__}, not of your input; please report it with the lines above"
            f" and the command: zoo {' '.join(argv)}",
            file=sys.stderr,
        )
        return Exit.OUR_FAULT
