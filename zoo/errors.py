"""What a user can cause, told in one sentence; and how a name that nobody knows is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input: the message says what was expected, what was found and what to do.

    The command line prints the message alone and exits with 2. Any other exception is a fault of ours
    and exits with 70.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among `known`, which lists the closest ones first.

    >>> str(unknown_name("head", "arcfase", ["softmax", "arcface", "cosface"]))
    "no head is called 'arcfase'; did you mean arcface? Known: arcface, cosface, softmax."
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    ordered = close + [other for other in names if other not in close]
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return InputError(f"no {kind} is called {name!r}{hint} Known: {', '.join(ordered)}.")
