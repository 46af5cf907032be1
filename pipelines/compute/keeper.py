"""The process that owns a checkout's workers, so that one set of them serves many stages.

The first stage that trains starts a keeper, later ones find it: it lives in
``scratch/workers/<key>/``, where ``keeper.json`` has its address and process and the file ``alive``
is locked for as long as it lives. The key is a digest of the machine, the code, the installed
packages and the settings, so workers are never met by code or settings that are not theirs. A
keeper without clients leaves after ``idle_seconds``, and at once if its folder is removed.

Run as ``python -m pipelines.compute.keeper FOLDER LOGS``.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.compute import placement
from pipelines.compute.settings import Compute, data_directory, settings
from pipelines.storage import layout, scratch, sources
from safs import sealed
from safs.errors import SafsError
from safs.files import naming, write_json

if TYPE_CHECKING:
    from distributed import Client

_LOOK_SECONDS = 0.5
_START_SECONDS = 120.0
# Variables that change what a worker does; the settings have the project's own.
_VARIABLES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "ATEN_", "TORCH", "CUBLAS_", "CC", "CXX", "LD_",
              "ONEDNN_", "DNNL_", "NPY_")  # fmt: skip


def logs() -> Path:
    """Where workers and keepers log."""
    return layout.SCRATCH.resolve() / "logs"


def connect(wanted: Compute) -> Client:
    """A client of this checkout's keeper, which is started if there is none.

    Raises:
        SafsError: the keeper did not start; the message says why.
    """
    folder = layout.SCRATCH.resolve() / "workers" / _key(wanted)
    folder.mkdir(parents=True, exist_ok=True)
    # Held until the client is counted, so that the keeper cannot leave in between.
    with scratch.locked(folder / "door"):
        if not _alive(folder):
            _start(folder)
        return client(sealed.read_object(folder / "keeper.json")["address"])


def newest_log(wanted: Compute) -> Path:
    """The log of the last keeper with these settings; where it is gone, the folder of logs."""
    return max(logs().glob(f"keeper-*-{_key(wanted)}.log"), default=logs())


def client(address: str) -> Client:
    """A client of a running scheduler.

    Raises:
        OSError: nothing answers there.
    """
    from distributed import Client

    return Client(address, set_as_default=False, timeout=30)


def _key(wanted: Compute) -> str:
    """What workers must share with the stage that they work for."""
    variables = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)}
    packages = {path.name for base in sys.path for path in Path(base).glob("*.dist-info")}
    content = [
        socket.gethostname(),
        sys.executable,
        sorted(packages),
        _code(),
        wanted.model_dump(mode="json"),
        str(data_directory()),
        sorted(os.sched_getaffinity(0)),
        sorted(variables.items()),
    ]
    return sealed.digest(content)[:16]


ON_WORKERS = ("safs", *(f"pipelines/{name}" for name in ("storage", "config", "compute", "tasks")))
"""Folders of what a worker may run."""


def _code() -> dict[str, str]:
    """Digest of every file that a worker may run, comments included."""
    roots = (sources.ROOT / part for part in ON_WORKERS)
    below = (path for root in roots for path in root.rglob("*") if path.is_file())
    files = [*below, *(sources.ROOT / "pipelines").glob("*.py")]  # read as a process starts
    return {
        path.relative_to(sources.ROOT).as_posix(): sealed.file_digest(path)
        for path in files
        if "__pycache__" not in path.parts
    }


def _alive(folder: Path) -> bool:
    """Whether a keeper holds the folder and has said where it is."""
    with (folder / "alive").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return (folder / "keeper.json").exists()
        (folder / "keeper.json").unlink(missing_ok=True)
        return False


def _start(folder: Path) -> None:
    """Start a keeper in a session of its own, and wait until it has said where it is."""
    from pipelines.compute import clusters

    place = logs()
    place.mkdir(parents=True, exist_ok=True)
    log = place / f"keeper-{time.strftime('%Y%m%d-%H%M%S')}-{folder.name}.log"
    command = [sys.executable, "-m", __name__, str(folder), str(place)]
    with naming(log), log.open("wb", buffering=0) as file:
        file.write(b"\n")  # on a full disk the keeper could not say why it did not start
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PYTHONHASHSEED": "0", "DASK_LOGGING__DISTRIBUTED": "warning"},
        )
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / "keeper.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            why = clusters.last_words(log)
            raise SafsError(f"the workers did not start: {why} (see {log})")
        time.sleep(0.05)


def keep(folder: Path, place: Path) -> None:
    """Own the workers that the settings ask for until nobody needs them."""
    from pipelines.compute import clusters

    wanted = settings()
    os.environ["SAFS_DEVICE"] = wanted.device
    placement.announce(placement.placement(wanted))
    # A keeper that is about to leave holds the lock until its workers are gone.
    with scratch.locked(folder / "alive"), clusters.start(wanted, place) as cluster:
        described = {"address": cluster.scheduler_address, "pid": os.getpid()}
        write_json(folder / "keeper.json", described)
        _wait(folder, cluster.scheduler, wanted.idle_seconds)


def _wait(folder: Path, scheduler: Any, idle_seconds: float) -> None:
    """Return when nobody has been connected for a while, or the folder is gone."""
    used = time.monotonic()
    while (folder / "keeper.json").exists():
        if set(scheduler.clients) - {"fire-and-forget"}:
            used = time.monotonic()
        elif time.monotonic() - used > idle_seconds:
            with scratch.locked(folder / "door"):
                if not set(scheduler.clients) - {"fire-and-forget"}:
                    (folder / "keeper.json").unlink()
                    return
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
