"""What a run's record says of where it ran."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Any

from pipelines.storage.repository import commit
from safs.processor import cpu_name

_PACKAGES = ("dvc", "numpy", "scipy", "smac", "ConfigSpace", "torch", "torchvision")


@cache
def describe() -> dict[str, Any]:
    """Python, operating system, processor, library versions and the commit, if there is one."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": commit(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
