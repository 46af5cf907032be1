"""Where work runs: in this process, on local workers, or on a running Dask cluster.

Nothing here changes a parameter, a digest or (on one kind of processor) a bit of a result, so it is
steered by the environment and never by parameters:

``DASK_SCHEDULER_ADDRESS``  use this running cluster (the files must be on a shared disk);
``SAFS_WORKERS``            number of local workers; 0 runs everything in the stage's own process;
``SAFS_DEVICE``             auto, cpu, cuda or cuda:N;
``SAFS_DATA``               folder of downloaded data sets.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_inline_listeners: dict[str, Callable[[str, int], None]] = {}


def data_directory() -> Path | None:
    """Where downloaded data sets lie (``SAFS_DATA``)."""
    value = os.environ.get("SAFS_DATA")
    return Path(value) if value else None


def device_name() -> str:
    """The device asked for (``SAFS_DEVICE``)."""
    return os.environ.get("SAFS_DEVICE", "auto")


def worker_count() -> int:
    """Local workers: as told, else one per GPU, else one per core of this process."""
    told = os.environ.get("SAFS_WORKERS")
    if told is not None:
        return int(told)
    gpus = [p for p in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)]
    if gpus and device_name() in ("auto", "cuda"):
        return len(gpus)
    return len(os.sched_getaffinity(0))


# Dask tells glibc to give memory back at once (a trim threshold of 64 KiB); a training step frees
# and takes megabytes thousands of times a minute, and half its time would go into page faults.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def cluster(workers: int) -> Any:
    """A local cluster of single-threaded workers, to be closed by the caller."""
    import dask
    from distributed import LocalCluster

    dask.config.set({"distributed.worker.daemon": False})
    for name, value in _MALLOC.items():
        dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value})
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=40
    )


class Pool:
    """Runs tasks on workers that start with the first task, so a finished stage starts none.

    Args:
        listen: called with ``(identity, epoch)`` whenever a training finishes an epoch.
    """

    def __init__(self, listen: Callable[[str, int], None]) -> None:
        self.topic = f"safs-{os.getpid()}-{id(self)}"
        self._listen = listen
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._opened: list[Any] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        _inline_listeners.pop(self.topic, None)
        while self._opened:
            self._opened.pop().close()

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one task on a worker and wait for its result."""
        future: Future[T] = self._started().submit(function, *arguments)
        return future.result()

    def _started(self) -> Executor:
        with self._lock:
            if self._executor is None:
                self._executor = self._start()
            return self._executor

    def _start(self) -> Executor:
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        workers = worker_count()
        if not address and not workers:
            _inline_listeners[self.topic] = self._listen
            return ThreadPoolExecutor(max_workers=1)
        from distributed import Client

        if not address:
            self._opened.append(cluster(workers))
            address = self._opened[-1].scheduler_address
        client = Client(address, set_as_default=False)
        self._opened.append(client)
        client.wait_for_workers(1)
        client.subscribe_topic(self.topic, lambda event: self._listen(*event[1]))
        executor: Executor = client.get_executor(pure=False)
        return executor


def announce(topic: str, identity: str, epoch: int) -> None:
    """Tell the stage, from inside a task, that a training has finished an epoch."""
    listener = _inline_listeners.get(topic)
    if listener is not None:
        listener(identity, epoch)
        return
    from distributed import get_worker

    get_worker().log_event(topic, (identity, epoch))


def worker_number() -> int:
    """The number of the worker a task runs on; 0 where there are no workers."""
    from distributed import get_worker

    try:
        name = str(get_worker().name)
    except ValueError:
        return 0
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0
