"""Digests, folders and journals: what lets work be kept, recognised and resumed.

The scratch folder is untracked. A piece of work lives there under the digest of everything it
reads, including what decides its bits (:func:`safs.backends.device.bit_identity`), so a changed
input never meets an old checkpoint.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder(root: Path, kind: str, identity: str) -> Path:
    """The scratch folder of one piece of work, created."""
    path = root / kind / identity[:32]
    path.mkdir(parents=True, exist_ok=True)
    return path


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


class Journal:
    """Finished trainings of one search: one fsynced JSON line each.

    A restarted search walks the same path again; what the journal holds is answered from it. The
    key of a line is the digest of the training's job, so a line is never taken for another's. A
    last line torn by a kill is ignored and overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Json] = {}
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                row = _parse(line)
                if row is None:
                    break
                self._rows[row["key"]] = row["value"]
                whole += len(line)
            with path.open("rb+") as file:
                file.truncate(whole)

    def get(self, key: str) -> Json | None:
        """The value of a finished training, or None."""
        return self._rows.get(key)

    def add(self, key: str, value: Json) -> None:
        """Append one finished training; on return it has reached the disk."""
        self._rows[key] = value
        line = json.dumps({"key": key, "value": value}, sort_keys=True, allow_nan=False)
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def __len__(self) -> int:
        return len(self._rows)


def _parse(line: bytes) -> Json | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"key", "value"} <= set(row) else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting for it; the lock ends with the process that holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
