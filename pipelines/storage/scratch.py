"""Folders and journals: what lets work be kept, recognised and resumed.

The scratch folder is untracked. A piece of work lives there under the digest of everything it
reads, including what decides its bits (:func:`safs.backends.device.bit_identity`), so a changed
input never meets an old checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pipelines.storage.layout import SCRATCH
from safs.errors import SafsError
from safs.files import naming, write_text
from safs.sealed import DIGEST, Json, seal

IN_USE = SCRATCH / "in-use"


class Journal:
    """Finished trainings of one search: one fsynced JSON line each.

    A restarted search walks the same path again; what the journal holds is answered from it. The
    key of a line is the digest of the training's job, so a line is never taken for another's, and
    each line is sealed: one that was torn or damaged is dropped, and its training made again.
    Values keep the order of their keys, which the digest of an outcome follows
    (:meth:`safs.rows.Trained.outcome`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [(line, row) for line in lines if (row := _parse(line)) is not None]
        self._rows: dict[str, Json] = {row["key"]: row["value"] for _, row in whole}
        if len(whole) < len(lines):
            write_text(path, b"".join(line for line, _ in whole).decode())

    def get(self, key: str) -> Json | None:
        """The value of a finished training, or None."""
        return self._rows.get(key)

    def add(self, key: str, value: Json) -> None:
        """Append one finished training; on return it has reached the disk."""
        self._rows[key] = value
        line = json.dumps(seal({"key": key, "value": value}), allow_nan=False)
        with naming(self.path), self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def _parse(line: bytes) -> Json | None:
    try:
        row = json.loads(line)
        whole = line.endswith(b"\n") and seal(row)[DIGEST] == row[DIGEST]
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return row if whole else None


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a file's lock, waiting for it; the lock ends with the process that holds it."""
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


def in_use() -> AbstractContextManager[None]:
    """Keep the scratch folder from being emptied; any number of processes hold it at once."""
    SCRATCH.mkdir(exist_ok=True)
    return locked(IN_USE, fcntl.LOCK_SH)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(but: Collection[Path] = ()) -> None:
    """Remove all that the scratch folder holds but these.

    Raises:
        SafsError: a stage, or a command that trains, has it :func:`in_use`.
    """
    try:
        with locked(IN_USE, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for path in SCRATCH.iterdir():
                if path not in (IN_USE, *but):
                    remove(path)
    except BlockingIOError:
        raise SafsError(
            f"{SCRATCH}: in use by a stage or a command that trains; wait for it or end it"
        ) from None
