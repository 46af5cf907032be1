"""One run in a checkout at a time: the second is told who runs.

The lock is on an open file, which every DVC of the run inherits: it is free once the last of them
has ended, also where the run itself was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

from pipelines.storage.layout import SCRATCH
from safs.errors import SafsError
from safs.files import naming

FILE = SCRATCH / "run.lock"
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.2


@contextmanager
def alone(command: str) -> Iterator[int]:
    """Hold the working folder for a run; yields the descriptor that its processes inherit.

    Args:
        command: what runs, for whoever comes second.

    Raises:
        SafsError: another run holds it, or what a killed one left does not end.
    """
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a+") as file:
        _take(file)
        since = datetime.now().strftime("%H:%M:%S")
        with naming(FILE):
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "command": command, "since": since}))
            file.flush()
        yield file.fileno()


def _take(file: IO[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
        if holder and _lives(holder["pid"]):
            raise SafsError(
                f"another run holds this checkout: process {holder['pid']}, "
                f"`{holder['command']}`, since {holder['since']}; wait for it or end it"
            )
        if time.monotonic() > deadline:
            raise SafsError(f"{FILE}: still held by what a killed run has left; end it first")
        time.sleep(_POLL_SECONDS)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _holder(file: IO[str]) -> dict[str, Any] | None:
    """Who holds the lock; None while that is being written."""
    file.seek(0)
    try:
        return dict(json.loads(file.read()))
    except ValueError:
        return None
