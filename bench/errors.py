"""The one error that bench raises for bad input: its message is one line, fit to show as it is."""

from __future__ import annotations


class BenchError(ValueError):
    """Bad or contradictory input: results that cannot be read, or must not be put together."""
