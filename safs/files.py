"""Writing files so that a killed process leaves either the old file or the new one."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place if the block ends well.

    The folder is made; the content has reached the disk before the name does.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, with ``\\n`` between lines; returns ``path``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, value: object) -> Path:
    """Plain data as sorted, indented JSON; NaN and infinity are errors."""
    return write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or absent."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
