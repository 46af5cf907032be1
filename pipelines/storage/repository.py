"""The git repository: its commit, and files as the last commit has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from safs.errors import SafsError


def commit() -> str | None:
    """The commit, with ``-dirty`` where code or parameters differ from it; None where is none.

    What every run writes itself (results and DVC's locks) does not count.

    Raises:
        SafsError: git refuses to say, in its own words: the folder may be another user's.
    """
    if not in_repository():
        return None
    head = _git("rev-parse", "--short=12", "--verify", "--quiet", "HEAD", of_none="")
    written = (":(top)", ":(top,exclude)results", ":(top,exclude,glob)**/dvc.lock")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *written)
    return f"{head}-dirty" if head and changed else head or None


def in_repository() -> bool:
    """Whether this folder lies in a git repository. Raises SafsError where git refuses to say."""
    inside = shutil.which("git") and _git("rev-parse", "--is-inside-work-tree", of_none="")
    return bool(inside)


def committed(path: Path) -> str | None:
    """The text of a file, in or below this folder, as the last commit has it; None if it has none.

    Raises:
        SafsError: it is no UTF-8, or git refuses to say, in its own words.
    """
    if shutil.which("git") is None:
        return None
    at = f"HEAD:./{path.as_posix()}"
    if not _git("rev-parse", "--verify", "--quiet", at, of_none=""):
        return None
    try:
        return _printed("show", at).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SafsError(f"{path} in the last commit: not UTF-8 at byte {error.start}") from None


def _git(*arguments: str, of_none: str | None = None) -> str:
    """What a git command prints; ``of_none`` where there is no repository, or nothing in it."""
    return _printed(*arguments, of_none=of_none).decode("utf-8", "replace").strip()


def _printed(*arguments: str, of_none: str | None = None) -> bytes:
    english = {**os.environ, "LC_ALL": "C"}  # what git says is read below
    done = subprocess.run(["git", *arguments], capture_output=True, check=False, env=english)
    if done.returncode == 0:
        return done.stdout
    words = " ".join(done.stderr.decode("utf-8", "replace").split())
    if of_none is not None and ("not a git repository" in words or not words):
        return of_none.encode()
    raise SafsError(f"git: {words}")
