"""One registry type for everything that can be added to: operators, networks, data sets, ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from safs.errors import UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only mapping from name to entry, filled by :meth:`add`.

    ``definitions`` has the function or class behind each entry. An unknown name raises
    :class:`~safs.errors.UnknownName`, which lists the known ones.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self.definitions: dict[str, Any] = {}

    def add(self, name: str, entry: T, definition: Any = None) -> T:
        """Enter ``entry`` under ``name``; a name is given once.

        ``definition`` is the function or class that it is made from, if that is not the entry.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        self.definitions[name] = entry if definition is None else definition
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""
        return lambda entry: self.add(name, entry)

    def remove(self, name: str) -> None:
        """Take an entry out again (for tests that add one)."""
        del self._entries[name], self.definitions[name]

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
