"""The `zoo` command: finds the command's module, runs it, and turns every outcome into an exit code.

Exit codes: 0 done (verify: same person), 1 verify: different people, audit: another figure, 2 wrong input, 3 no
verdict, 70 our own fault, 130 interrupted. Each command is a module of `zoo.commands` with `add_arguments(parser)` and
`run(args) -> int | None`; only the one that was named is imported, so that `zoo --help` is instant.
"""

import contextlib
import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from zoo import __version__
from zoo.errors import Exit, InputError, unknown_name
from zoo.machine import cores
from zoo.messages import Lines, log
from zoo.options import Parser

COMMANDS = (
    *("train", "export", "inspect", "evaluate", "audit", "reproduce", "verify", "identify", "index", "migrate"),
    *("embed", "cluster", "serve", "align", "push", "pull", "card", "adopt", "list", "data"),
)  #: In the order of `zoo --help`; `zoo.commands.NAME` implements each


def summary(command: str) -> str:
    """What a command does: the beginning of its module's docstring, for which it need not be imported."""
    source = Path(__file__).parent / "commands" / f"{command}.py"
    words = re.split(r"[.:](?: |$)", source.read_text(encoding="utf-8").partition("\n")[0].strip('"'))[0]
    return words[0].lower() + words[1:]


def usage() -> str:
    lines = [f"  zoo {name:<{max(map(len, COMMANDS))}}  {summary(name)}" for name in COMMANDS]
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
        return int(command.run(args) or Exit.OK)


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
        told = f"zoo: this is a fault of zoo {__version__}, not of your input; please report it with the lines above"
        print(f"{told} and the command: zoo {' '.join(argv)}", file=sys.stderr)
        return Exit.OUR_FAULT
