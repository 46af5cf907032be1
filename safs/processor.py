"""The CPU's name, read in one place."""

from __future__ import annotations

import platform
from pathlib import Path

_INFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Model name of the CPU, as Linux prints it; elsewhere what Python knows."""
    return _first(("model name",)) or platform.processor() or platform.machine()


def cpu_flags() -> str:
    """What the CPU can do, as Linux prints it; elsewhere its architecture."""
    return _first(("flags", "Features")) or platform.machine()


def _first(keys: tuple[str, ...]) -> str:
    """The value of the first line of Linux's table that starts with one of the keys."""
    lines = _INFO.read_text().splitlines() if _INFO.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(keys))
    return next(found, "")
