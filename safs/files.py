"""Files: reading those of others within bounds; writing so that a kill leaves old or new."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safs.errors import SafsError


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file that somebody else may have put there: never waits, never grows.

    Args:
        path: a file on a disk; what has no size of its own (a pipe, a device, an entry of
            ``/proc``) is refused unread.
        most: bytes that it may have.

    Raises:
        SafsError: one line that names the file.
        OSError: it is not there, or cannot be opened.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SafsError(f"{path}: not a regular file")
        if not 0 < found.st_size <= most:
            size = f"{found.st_size} bytes" if found.st_size else "an empty file"
            raise SafsError(f"{path}: {size}; expected 1 to {most} bytes")
        return file.read(found.st_size)


def read_text(path: Path, most: int) -> str:
    """The same as text: UTF-8 without a byte order mark. Raises SafsError, or OSError."""
    content = read_bytes(path, most)
    if content.startswith(codecs.BOM_UTF8):
        raise SafsError(f"{path}: starts with a byte order mark; expected UTF-8 without one")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SafsError(f"{path}: not UTF-8 at byte {error.start}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place if the block ends well.

    The folder is made; the content has reached the disk before the name does. An error that names
    the temporary file, or none as that of a full disk, names ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with naming(target, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, instead_of: Path | None = None) -> Iterator[None]:
    """Give an OSError that names no file, or ``instead_of``, the name of the file it is about."""
    try:
        yield
    except OSError as error:
        named = {str(name) for name in (error.filename, error.filename2) if name is not None}
        if error.errno is None or (named and str(instead_of) not in named):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, with ``\\n`` between lines; returns ``path``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, value: object) -> Path:
    """Plain data as :func:`json_text`."""
    return write_text(path, json_text(value))


def json_text(value: object) -> str:
    """Plain data as sorted, indented JSON; NaN and infinity are errors."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or absent."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
