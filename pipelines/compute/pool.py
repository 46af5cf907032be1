"""A stage's way to its workers: it starts or finds them with the first task."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.compute.placement import Place, Placement, placement
from pipelines.compute.settings import Compute, settings
from pipelines.storage import artefacts
from safs.errors import SafsError

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

_PATIENCE_SECONDS = 60.0

_inline_listeners: dict[str, Callable[[str, int], None]] = {}


class WorkerDied(SafsError):
    """A task's worker died, and so did the one that tried it again; the message says how."""


class Abandoned(Exception):
    """Nobody waits for a task's result any more: its stage has died."""


class Pool:
    """Runs tasks on workers that are there with the first task, so a finished stage needs none.

    Args:
        listen: called with ``(identity, epoch)`` whenever a training finishes an epoch.
        where: what to run on; by default what file and environment say.

    Raises:
        SafsError: file or environment are not valid.
    """

    def __init__(self, listen: Callable[[str, int], None], where: Compute | None = None) -> None:
        self.topic = f"safs-{os.getpid()}-{id(self)}"
        self.where = settings() if where is None else where
        self._listen = listen
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._inline: ThreadPoolExecutor | None = None
        self._complained = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        _inline_listeners.pop(self.topic, None)
        if self._inline is not None:
            self._inline.shutdown()
        if self._client is not None:
            self._client.close()

    @cached_property
    def placement(self) -> Placement | None:
        """How the workers have this machine's GPUs; None where all have the same device."""
        return placement(self.where)

    def run(self, function: Callable[..., T], *arguments: Any, place: Place | None = None) -> T:
        """Run one task on a worker and wait for its result.

        A task whose worker dies is tried once more, and so is one whose scheduler dies.

        Args:
            function, arguments: the task.
            place: which workers may take it; None for any.

        Raises:
            WorkerDied: the second worker died too.
            SafsError: there can be no workers here, or a GPU has too little memory; the message
                says why.
        """
        try:
            return self._run(place, function, *arguments)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which no stage has to import
                raise
            why = next(iter(str(error).splitlines()), "out of memory on a GPU")
            raise SafsError(f"{why} (fewer workers leave each more: SAFS_WORKERS)") from error

    def _run(self, place: Place | None, function: Callable[..., T], *arguments: Any) -> T:
        if self.where.kind == "local" and not self.where.count:
            return self._here().submit(function, *arguments).result()
        from concurrent.futures import CancelledError

        client = self._connected()
        try:
            return self._result(client, place, function, *arguments)
        except CancelledError:
            return self._result(self._connected(instead_of=client), place, function, *arguments)

    def _here(self) -> ThreadPoolExecutor:
        """One thread of this process that runs the tasks."""
        with self._lock:
            if self._inline is None:
                _inline_listeners[self.topic] = self._listen
                self._inline = ThreadPoolExecutor(max_workers=1)
            return self._inline

    def _connected(self, instead_of: Client | None = None) -> Client:
        """The client of this stage, opened if there is none or if the one given is lost."""
        with self._lock:
            lost = self._client is instead_of
            if self._client is not None and lost:
                self._client.close()
                self._client = None
            if self._client is None:
                self._client = self._connect()
                self._client.subscribe_topic(self.topic, lambda event: self._listen(*event[1]))
            return self._client

    def _connect(self) -> Client:
        from pipelines.compute import clusters, keeper

        if self.where.address is None:
            clusters.check(self.where)
            return keeper.connect(self.where)
        try:
            return keeper.client(self.where.address)
        except (OSError, ValueError) as error:
            where, why = self.where.address, " ".join(str(error).split())
            raise SafsError(f"address: {where!r}: no Dask scheduler answers ({why})") from None

    def _result(
        self, client: Client, place: Place | None, function: Callable[..., T], *arguments: Any
    ) -> T:
        from distributed.scheduler import KilledWorker

        from pipelines.compute import clusters, keeper

        workers = self.placement.numbers(place) if self.placement and place else None
        try:
            task = client.submit(function, *arguments, pure=False, workers=workers)
            return self._wait(client, task)
        except KilledWorker as error:
            worker = error.last_worker
            log = clusters.log_of(keeper.logs(), worker.name, worker.pid)
            raise WorkerDied(f"{artefacts.DIED}: {clusters.last_words(log)}") from None

    def _wait(self, client: Client, future: Future) -> Any:
        """A task's result. Says once if there is no worker after a while: queues refuse jobs."""
        try:
            return future.result(timeout=_PATIENCE_SECONDS)
        except TimeoutError:  # of the waiting, or the task's own
            if not future.done():
                self._complain(client)
        return future.result()

    def _complain(self, client: Client) -> None:
        from pipelines.compute import keeper

        with self._lock:
            if self._complained or client.scheduler_info().get("workers"):
                return
            self._complained = True
            place = self.where.address or keeper.newest_log(self.where)
            text = f"no worker has started yet after {_PATIENCE_SECONDS:g} s; see {place}"
            print(text, file=sys.stderr, flush=True)


def announce(topic: str, identity: str, epoch: int) -> None:
    """Tell the stage, from inside a task, that a training has finished an epoch.

    Raises:
        Abandoned: the stage is gone; the task should end.
    """
    listener = _inline_listeners.get(topic)
    if listener is not None:
        listener(identity, epoch)
        return
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(topic, (identity, epoch))
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise Abandoned(identity)


def worker_number() -> int:
    """The number that ends the name of the worker a task runs on, which decides on its GPU.

    0 where there are no workers, and where the name has no number of its own: a worker that was
    given none is named by its address.
    """
    from distributed import get_worker

    try:
        name = str(get_worker().name)
    except ValueError:
        return 0
    return number_of(name)


def number_of(name: str) -> int:
    """The number that a worker's name ends with, as in ``3`` or ``SLURMCluster-0-3``, or 0."""
    found = re.fullmatch(r"(?:.*-)?(\d+)", name)
    return int(found[1]) if found else 0
