"""DVC in processes of its own, which end before they are left (:mod:`pipelines.signals`).

What a DVC that was killed has left is put in order before the next one starts.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipelines import signals
from safs import sealed
from safs.errors import SafsError

_POLL_SECONDS = 0.2
_running: set[subprocess.Popen[bytes]] = set()


def run(*arguments: str, environment: Mapping[str, str], keep: Sequence[int] = ()) -> bool:
    """Run a DVC command in the working folder; whether it ended well.

    Interrupted itself, it returns once DVC has ended. ``keep`` are descriptors that DVC inherits.
    """
    command = [sys.executable, "-m", "pipelines.dvc.process", *arguments]
    process = subprocess.Popen(command, env=dict(environment), pass_fds=keep)
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


def mend(lock: Path) -> None:
    """Put in order what a DVC that was killed has left.

    Half a table of busy paths is removed, and so is half a lock file, also where another DVC has
    added its stage to the half: every stage is then looked at again, and keeps what it has
    finished.

    Args:
        lock: the ``dvc.lock`` of the pipeline.

    Raises:
        SafsError: DVC finds no repository here or cannot lock it.
    """
    from dvc.dvcfile import FileIsGitIgnored, Lockfile
    from dvc.exceptions import DvcException
    from dvc.lock import make_lock
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK
    from dvc.scm import SCMError

    try:
        with Repo() as repo:
            folder, hard = Path(repo.tmp_dir), repo.config["core"].get("hardlink_lock", False)
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hard):
            try:
                sealed.read_object(folder / RWLOCK_FILE)
            except FileNotFoundError:
                pass
            except SafsError:
                (folder / RWLOCK_FILE).unlink()
    except DvcException as error:
        hint = "; `git init` here, or clone the repository" if isinstance(error, SCMError) else ""
        raise SafsError(f"DVC: {' '.join(str(error).split())}{hint}") from None
    try:
        Lockfile(repo, str(lock.resolve())).load()
    except FileIsGitIgnored as error:
        raise SafsError(f"DVC: {error}") from None
    except (DvcException, ValueError):
        print(f"{lock}: half a file, removed; stages keep what they finished", file=sys.stderr)
        lock.unlink()


if __name__ == "__main__":
    signals.end_with_parent(signal.SIGTERM)
    signals.end_children_when_asked()
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))
