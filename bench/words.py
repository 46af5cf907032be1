"""Numbers of things in words."""

from __future__ import annotations


def counted(count: int, one: str, more: str = "") -> str:
    """``count`` things by their name: ``one`` of them, else ``more``, or ``one`` with an s."""
    return f"{count} {one if count == 1 else more or one + 's'}"
