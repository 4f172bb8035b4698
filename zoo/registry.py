"""Names for interchangeable things. One `Registry` holds one kind: heads, protocols, export formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from zoo.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to things of one kind.

    Registering a taken name raises; asking for an unknown one lists the known names, closest first.

    >>> shapes: Registry[int] = Registry("shape")
    >>> _ = shapes.register("triangle")(3)
    >>> shapes["triangle"]
    3
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated thing under `name`; ValueError when the name is taken."""

        def file(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"a {self.kind} called {name!r} is registered already; choose another name")
            self._entries[name] = entry
            return entry

        return file

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
