"""Errors that tell the reader what was wrong, what was expected and the nearest valid name."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60
LONGEST_NAME = 100


class SafsError(ValueError):
    """Bad input. The message is one line, fit to be shown without a traceback."""


class UnknownName(SafsError, KeyError):
    """A name that no registry entry or setting has.

    Args:
        kind: what was looked up, e.g. ``"operator"``.
        name: the name that was asked for.
        known: every valid name.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(f"unknown {kind} {shown(name)}{did_you_mean(name, self.known)}")

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, object, tuple[str, ...]]]:
        """Made again from its own arguments: it crosses from workers to stages."""
        return type(self), (self.kind, self.name, self.known)


def one_line(error: BaseException) -> str:
    """What is wrong, without a traceback: bad input, a full disk, no memory, a missing package."""
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    return str(error)


def shown(value: object) -> str:
    """What stands somewhere, as an error line shows it: short, printable, whatever it is."""
    return printable("null" if value is None else _SHORT.repr(value))


def printable(text: str) -> str:
    """The text with escapes in the place of what a terminal would not print."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error line: the nearest valid name, then all of them."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name)[:LONGEST_NAME], known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"
