"""What a run's record says of where it ran."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from typing import Any

_PACKAGES = ("dvc", "numpy", "scipy", "smac", "ConfigSpace", "torch", "torchvision")


@cache
def describe() -> dict[str, Any]:
    """Python, operating system, processor, library versions and the commit, if there is one."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _commit(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
