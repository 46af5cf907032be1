"""DVC in processes of its own, which end before they are left, also on Ctrl-C.

A DVC that dies while it writes down which paths it holds leaves half a file, and every later one
refuses to start. So Ctrl-C reaches the stage and not the DVC that runs it, which then notes that
its stage has failed, as after any failure. What a DVC that was killed has left is put in order.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from safs.errors import SafsError

_POLL_SECONDS = 0.2
_running: set[subprocess.Popen[bytes]] = set()


def run(*arguments: str, environment: Mapping[str, str]) -> bool:
    """Run a DVC command in the working folder; whether it ended well.

    Interrupted itself, it returns once DVC has ended.
    """
    command = [sys.executable, "-m", "pipelines.dvc.process", *arguments]
    process = subprocess.Popen(command, env=dict(environment))
    _running.add(process)
    try:
        return process.wait() == 0
    except KeyboardInterrupt:
        interrupt()
        raise
    finally:
        _running.discard(process)


def interrupt() -> None:
    """Interrupt the stage of every DVC that runs, until all of these have ended."""
    while waiting := [process for process in tuple(_running) if process.poll() is None]:
        for process in waiting:
            with suppress(psutil.Error):
                for stage in psutil.Process(process.pid).children():
                    stage.send_signal(signal.SIGINT)
        time.sleep(_POLL_SECONDS)


def mend() -> None:
    """Remove DVC's table of busy paths if a DVC that was killed has left half of it.

    Raises:
        SafsError: DVC cannot lock it.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import make_lock
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    with Repo() as repo:
        folder, hard = Path(repo.tmp_dir), repo.config["core"].get("hardlink_lock", False)
    try:
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hard):
            if not _whole(folder / RWLOCK_FILE):
                (folder / RWLOCK_FILE).unlink()
    except DvcException as error:
        raise SafsError(f"DVC: {' '.join(str(error).split())}") from None


def _whole(table: Path) -> bool:
    """Whether a file is JSON, or not there."""
    try:
        json.loads(table.read_text())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stage of ours listens all the same
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))
