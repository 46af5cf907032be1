"""The Dask clusters that a keeper may own: local processes, or jobs of a SLURM queue.

A worker is a process with one thread. It writes what it prints into a log of its own under
``scratch/logs``, so that a death leaves its last words.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, WorkerPlugin

from pipelines.compute.settings import Compute, data_directory
from safs.errors import SafsError

# Dask tells glibc to give memory back at once (a trim threshold of 64 KiB); a training step frees
# and takes megabytes thousands of times a minute, and half its time would go into page faults.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
_ENVIRONMENT = {**_MALLOC, "PYTHONHASHSEED": "0", "DASK_LOGGING__DISTRIBUTED": "warning"}
_DASK = {
    # Workers may start children.
    "distributed.worker.daemon": False,
    # A task whose worker died gets one more worker.
    "distributed.scheduler.allowed-failures": 1,
    # A worker holds the one task it runs, so a death takes no other task with it.
    "distributed.scheduler.worker-saturation": 1.0,
    # By itself Dask looks a hundred times a second at what a worker runs, for a page that nobody
    # opens, and fifty times at its event loops: 5 % of a core in each process, beside trainings
    # that want all of it.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    **{f"distributed.nanny.pre-spawn-environ.{name}": v for name, v in _ENVIRONMENT.items()},
}
# A job leaves this long before its walltime, so that its training moves on in time.
_LEAVE_SECONDS = 300


def local(workers: int) -> Any:
    """A cluster of single-threaded workers on this machine."""
    import dask

    dask.config.set(_DASK)
    # No memory limit: images mapped from the disk count as a worker's memory, though all share it.
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=None,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.WARNING,
    )


def in_jobs(settings: Compute, logs: Path) -> Any:
    """A scheduler in this process whose workers are jobs of a SLURM queue, none submitted yet.

    Args:
        settings: of kind ``slurm``.
        logs: folder of the jobs' logs, on a disk that this machine shares with the jobs'.
    """
    import dask
    from dask_jobqueue import SLURMCluster

    asked = settings.slurm
    assert asked is not None
    inherited = {"DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(_DASK)}
    exports = {**_ENVIRONMENT, **inherited, "SAFS_DEVICE": settings.device}
    if data_directory() is not None:
        exports["SAFS_DATA"] = str(data_directory())
    dask.config.set(_DASK)
    return SLURMCluster(
        queue=asked.queue,
        account=asked.account,
        cores=asked.workers_per_job,
        processes=asked.workers_per_job,
        job_cpu=asked.cpus,
        memory=asked.memory,
        walltime=asked.walltime,
        interface=asked.interface,
        job_name="safs",
        job_extra_directives=list(asked.directives),
        job_script_prologue=[
            f"cd {shlex.quote(str(Path.cwd()))}",
            *(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
            *asked.prologue,
        ],
        worker_extra_args=_lifetime(asked.walltime),
        log_directory=str(logs),
        python=shlex.quote(sys.executable),
        scheduler_options={"dashboard_address": ":0"},
        silence_logs=False,
    )


def _lifetime(walltime: str) -> list[str]:
    """Arguments that make a worker leave in good order before SLURM ends its job."""
    hours, minutes, seconds = map(int, walltime.split(":"))
    life = 3600 * hours + 60 * minutes + seconds - _LEAVE_SECONDS
    return ["--lifetime", f"{life}s", "--lifetime-stagger", "30s"] if life > _LEAVE_SECONDS else []


def start(settings: Compute, logs: Path) -> Any:
    """The cluster that the settings ask for, its workers logging into ``logs``."""
    logs.mkdir(parents=True, exist_ok=True)
    slurm = settings.kind == "slurm"
    made = in_jobs(settings, logs) if slurm else local(settings.count)
    nannies = logging.getLogger("distributed.nanny")
    nannies.setLevel(logging.INFO)
    nannies.addHandler(_Deaths(logs))
    with Client(made, set_as_default=False) as client:
        client.register_plugin(_Log(logs))
    if settings.slurm is not None:
        jobs = -(-settings.count // settings.slurm.workers_per_job)
        made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    return made


def check(settings: Compute) -> None:
    """Say before anything starts what this machine lacks.

    Raises:
        SafsError: SLURM is asked for where there is none.
    """
    if settings.kind == "slurm" and shutil.which("sbatch") is None:
        raise SafsError("kind: 'slurm': there is no command sbatch on this machine")


def log_of(logs: Path, name: object, pid: int) -> Path:
    """The log of one worker process."""
    return logs / f"worker-{name}-{pid}.log"


def last_words(log: Path) -> str:
    """Why a worker died, from its log: a fatal error, and the last line."""
    deadline = time.monotonic() + 2
    while not _lines(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = _lines(log) or ["it left no log"]
    fatal = [line for line in lines[:-1] if line.startswith("Fatal Python error")]
    return "; ".join([*fatal[-1:], lines[-1]])


def _lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    return [line for line in log.read_text(errors="replace").splitlines() if line.strip()]


class _Log(WorkerPlugin):
    """Sends everything that a worker process prints into a file, a crash's traceback included."""

    name = "safs-log"

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def setup(self, worker: Any) -> None:
        import faulthandler

        self.path = log_of(self.logs, worker.name, os.getpid())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        faulthandler.enable(file=2)

    def teardown(self, worker: Any) -> None:
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()


class _Deaths(logging.Handler):
    """Notes a death that the worker could not write down itself, such as kill -9, in its log."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self.logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"Worker process (\d+) was killed by signal (\d+)", record.getMessage())
        if found:
            pid, number = map(int, found.groups())
            for log in self.logs.glob(f"worker-*-{pid}.log"):
                with log.open("a") as file:
                    file.write(f"killed by signal {number} ({signal.Signals(number).name})\n")
