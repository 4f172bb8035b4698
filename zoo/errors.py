"""Wrong input reported in one sentence, unknown names with the closest known ones, and the exit codes."""

import contextlib
import difflib
import enum
from collections.abc import Iterable, Iterator


class Exit(enum.IntEnum):
    """The exit codes of every command."""

    OK = 0  #: Done; `zoo verify`: the same person; `zoo identify`: a person of the gallery
    DIFFERENT = 1
    """`zoo verify`: different people; `zoo identify`: nobody known; `zoo data check`: pictures in both sets;
    `zoo audit`: a claim outside what is measured."""
    WRONG_INPUT = 2
    NO_VERDICT = 3  #: `zoo verify` and `zoo identify`: no threshold is known; `zoo audit`: nothing was measured
    OUR_FAULT = 70
    INTERRUPTED = 130


class InputError(ValueError):
    """Wrong input: the message says what was expected, what was found and what to do.

    The command line prints the message alone and exits with 2; any other exception is our fault and exits with 70.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among `known`, which lists the closest ones first.

    >>> str(unknown_name("head", "arcfase", ["softmax", "arcface", "cosface"]))
    "no head is called 'arcfase'; did you mean arcface? Known: arcface, cosface, softmax."
    """
    names = sorted(known)
    close = closest(name, names)
    ordered = close + [other for other in names if other not in close]
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return InputError(f"no {kind} is called {name!r}{hint} Known: {', '.join(ordered)}.")


@contextlib.contextmanager
def needs(package: str, extra: str, purpose: str) -> Iterator[None]:
    """InputError, with the extra that brings it, where the block cannot import a package that it needs."""
    try:
        yield
    except ImportError:
        advice = f"pip install 'timm-face-zoo[{extra}]'"
        raise InputError(f"expected the package {package} {purpose}, found none; {advice}") from None


@contextlib.contextmanager
def explained(sentence: str, *errors: type[BaseException], advice: str = "", kind: type = InputError) -> Iterator[None]:
    """An InputError in place of these errors of other code: the sentence, their reason in brackets, and the advice."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        raise kind(f"{sentence} ({reason}){advice and f'; {advice}'}") from None


def first_line(error: BaseException) -> str:
    """The first line of another library's message that says something; the exception's name where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def closest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names among `known` that `name` may be a misspelling of, closest first.

    >>> closest("arcfase", ["softmax", "arcface", "cosface"])
    ['arcface']
    """
    return difflib.get_close_matches(name, sorted(known), n=most, cutoff=0.6)
