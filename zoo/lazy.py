"""Public names of a package that are imported at their first use, so that importing the package stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy(package: str, places: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package whose public names lie in the modules of `places`.

    A module is named relative to the package (`verifier`) or in full (`zoo.resolve`). A public name must not be that of
    a submodule: whoever imports the submodule would then replace the name.
    """
    homes = {
        name: module if module.startswith("zoo.") else f"{package}.{module}"
        for module, names in places.items()
        for name in names
    }

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *homes})

    return get, names
