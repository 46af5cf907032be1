"""What a run's record says of where it ran."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from typing import Any

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
        "git": _commit(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """The commit, with ``-dirty`` where code or parameters differ from it.

    What every run writes itself (results and DVC's locks) does not count.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    written = (":(top)", ":(top,exclude)results", ":(top,exclude,glob)**/dvc.lock")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *written)
    return f"{commit}-dirty" if commit and changed else commit or None


def _git(*arguments: str) -> str:
    """What a git command prints; nothing where there is no repository."""
    try:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
