"""How fast a GPU trains: an epoch of each pair in each arithmetic, and trainings side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier, BrokenBarrierError
from typing import Any, NamedTuple

import torch

from bench.labs.cards import Side, Speed
from pipelines.config.pair import Pair
from pipelines.tasks.shared import empty
from pipelines.tasks.timing import random_fold
from safs import masks
from safs.backends.dense import DenseBackend
from safs.pruning.prune import prune
from safs.spec import Acceleration
from safs.training.data import BatchOrder

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "graphs": {"graphs": True},
    "tf32": {"tf32": True},
    "bf16, channels_last": {"bf16": True, "channels_last": True},
    "compile: cuda_graphs": {"compile": "cuda_graphs"},
}
WORKERS = (1, 2, 4, 8)
_RATIO, _STEPS, _LR = 0.9, 20, 1e-6
_TOGETHER_SECONDS, _PATIENCE_SECONDS = 4.0, 60.0


def speeds(pairs: Mapping[str, Pair], device: torch.device, ends: float) -> Iterator[Speed]:
    """Every pair in every arithmetic, until the time is up.

    Args:
        pairs: by name.
        device: the GPU.
        ends: of :func:`time.monotonic`.
    """
    for option, settings in OPTIONS.items():
        for name, pair in pairs.items():
            images = _STEPS * pair.recipe.batch_size
            row = {"pair": name, "option": option, "images": images}
            if time.monotonic() > ends:
                yield Speed(**row, seconds=None, told="the time was up")
                continue
            try:
                yield Speed(**row, **_measured(pair, device, Acceleration(**settings)))
            except Exception as error:
                yield Speed(**row, seconds=None, told=in_a_line(error))


def in_a_line(error: Exception) -> str:
    """What went wrong, for a file whose texts are short and printable."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(c for c in words if c.isprintable())[:900]


def backend_of(pair: Pair, device: torch.device, how: Acceleration) -> DenseBackend:
    """A pair's pruned network, and noise to train it on."""
    made = empty(pair.network, pair.dataset.name)
    mask = prune(made, _RATIO)
    masks.apply(mask, made)
    images = random_fold(pair.dataset.name, _STEPS * pair.recipe.batch_size, device)
    order = BatchOrder(0, 0, "final")
    return DenseBackend(made.to(device), images, pair.recipe, order, mask, how)


def _measured(pair: Pair, device: torch.device, how: Acceleration) -> dict[str, Any]:
    torch.cuda.reset_peak_memory_stats(device)
    backend = backend_of(pair, device, how)
    backend.train_epoch(0, _LR)  # compiles, captures, chooses algorithms
    torch.cuda.synchronize()
    started = time.perf_counter()
    backend.train_epoch(1, _LR)  # ends with a copy to the host
    seconds = time.perf_counter() - started
    kernels = profiled(backend)
    return {
        "seconds": seconds,
        "launches": kernels and kernels.number / _STEPS,
        "busy": kernels and min(1.0, kernels.seconds / seconds),
        "bytes": torch.cuda.max_memory_allocated(device),
    }


class Kernels(NamedTuple):
    """How many a piece of work started, and how long they took in all."""

    number: int
    seconds: float


def profiled(backend: DenseBackend) -> Kernels | None:
    """The kernels of an epoch, by torch's profiler; None where it tells none."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        backend.train_epoch(2, _LR)
        torch.cuda.synchronize()
    events = [e for e in seen.events() or () if str(e.device_type).endswith("CUDA")]
    found = [e for e in events if not e.name.startswith(("Memcpy", "Memset"))]
    return Kernels(len(found), sum(e.device_time for e in found) / 1e6) if found else None


def side_by_side(pairs: Mapping[str, Pair], ends: float) -> Iterator[Side]:
    """Trainings of a pair in as many processes, until the time is up."""
    for name, pair in pairs.items():
        for workers in WORKERS:
            row = {"pair": name, "workers": workers}
            if time.monotonic() > ends:
                yield Side(**row, images_per_second=None, told="the time was up")
                continue
            try:
                yield Side(**row, images_per_second=sum(_rates(pair, workers)))
            except Exception as error:
                yield Side(**row, images_per_second=None, told=in_a_line(error))


def _rates(pair: Pair, workers: int) -> list[float]:
    start = get_context("spawn")
    with start.Manager() as manager, ProcessPoolExecutor(workers, start) as pool:
        warm = manager.Barrier(workers)
        trainings = [pool.submit(rate, pair, warm) for _ in range(workers)]
        errors = [error for training in trainings if (error := training.exception())]
        for error in sorted(errors, key=lambda e: isinstance(e, BrokenBarrierError)):
            raise error  # what broke the barrier, not what it did to the others
        return [training.result() for training in trainings]


def rate(pair: Pair, warm: Barrier) -> float:
    """Images per second of one training on this process's GPU, from when all others are warm."""
    from pipelines.tasks.shared import own_device

    try:
        backend = backend_of(pair, own_device(), Acceleration())
        backend.train_epoch(0, _LR)  # chooses algorithms
    except Exception:
        warm.abort()
        raise
    warm.wait(_PATIENCE_SECONDS)
    epochs, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < _TOGETHER_SECONDS:
        backend.train_epoch(0, _LR)
        epochs += 1
    return epochs * len(backend.fold.train) / seconds
