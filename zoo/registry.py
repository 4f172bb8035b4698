"""Names for interchangeable things. One `Registry` holds one kind: heads, protocols, export formats."""

import importlib.metadata
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from zoo.errors import InputError, unknown_name

T = TypeVar("T")


class Registry(UserDict[str, T]):
    """A mapping from names to things of one kind, in the order of the names.

    Registering a taken name raises; asking for an unknown one lists the known names, closest first.

    >>> shapes: Registry[int] = Registry("shape")
    >>> _ = shapes.register("triangle")(3)
    >>> shapes["triangle"]
    3
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.failed: dict[str, InputError] = {}
        """Entry points of installed packages that could not be loaded: the name, and the error when it is asked for."""

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated thing under `name`; ValueError when the name is taken."""

        def file(entry: T) -> T:
            if name in self:
                raise ValueError(f"a {self.kind} called {name!r} is registered already; choose another name")
            self[name] = entry
            return entry

        return file

    def load_entry_points(self, group: str, base: type[Any]) -> None:
        """Registers the subclasses of `base` that installed packages name as entry points of `group`.

        One that cannot be loaded goes to `failed`; the others still work. A package declares, in its pyproject.toml,

            [project.entry-points."zoo.heads"]
            my-head = "my_package.my_head:MyHead"
        """
        for entry in importlib.metadata.entry_points(group=group):
            package = entry.dist.name if entry.dist else entry.value
            try:
                found = entry.load()
                if not (isinstance(found, type) and issubclass(found, base)):
                    raise TypeError(f"{found!r} is no subclass of {base.__module__}.{base.__name__}")
                if self.data.get(entry.name) is not found:  # the module may use the decorator as well
                    self.register(entry.name)(found)  # type: ignore[arg-type]  # a T, as it is a subclass of base
            except Exception as error:  # third-party code may raise anything; reported when its name is asked for
                self.failed[entry.name] = InputError(
                    f"expected the package {package} to provide the {self.kind} {entry.name} ({entry.value}), found "
                    f"that it cannot be loaded ({type(error).__name__}: {error}); repair or uninstall {package}"
                )

    def __missing__(self, name: str) -> T:
        raise self.failed.get(name) or unknown_name(self.kind, name, self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.data))
