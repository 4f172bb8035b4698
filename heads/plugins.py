"""Heads of other packages, found through the entry-point group `zoo.heads`."""

from __future__ import annotations

import importlib.metadata

from zoo.errors import InputError
from zoo.heads.base import BROKEN, HEADS, MarginHead

GROUP = "zoo.heads"


def load_entry_points() -> None:
    """Registers every entry point of the group under its name; one that fails is kept in `BROKEN`, the rest work.

    A package declares, in its pyproject.toml,

        [project.entry-points."zoo.heads"]
        my-head = "my_package.my_head:MyHead"
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else entry.value
        try:
            _register(entry.name, entry.load())
        except Exception as error:  # whatever a stranger's module raises; told when its head is asked for
            reason = f"{type(error).__name__}: {error}"
            BROKEN[entry.name] = InputError(
                f"expected the package {package} to bring the head {entry.name} ({entry.value}), found that it "
                f"cannot be used ({reason}); repair or uninstall {package}"
            )


def _register(name: str, head: object) -> None:
    if not (isinstance(head, type) and issubclass(head, MarginHead)):
        raise TypeError(f"{head!r} is no subclass of zoo.heads.MarginHead")
    if name in HEADS and HEADS[name] is head:  # its module used the decorator as well
        return
    HEADS.register(name)(head)
