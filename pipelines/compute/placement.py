"""Which worker of this machine has which device, and which of them train a pair.

With ``device: auto`` on a machine with GPUs, the first workers have a GPU each, several to one
where there are cores for it, and the others a core. A pair is trained by one kind alone:

- networks under :data:`LIGHT` dense multiply-adds an image on the cores, since the kernels train
  them masked in less time than a GPU takes to start that many operations;
- those under :data:`SMALL` on every worker with a GPU: one training leaves most of it idle;
- all others on the first worker of each GPU.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Literal, NamedTuple

from pipelines.compute.settings import Compute, visible_gpus
from safs.spec import BackendName

LIGHT = 5_000_000
SMALL = 100_000_000
MOST_PER_GPU = 4
_VARIABLE = "SAFS_PLACEMENT"

Place = Literal["cpu", "shared gpu", "gpu"]


class Placement(NamedTuple):
    """The workers of one machine, by number.

    Attributes:
        gpus: visible ones; 0 where every worker has the same device.
        with_gpu: workers that have a GPU; worker n has GPU n modulo ``gpus``.
        workers: all of them.
    """

    gpus: int
    with_gpu: int
    workers: int

    def device(self, number: int) -> str:
        """The device of a worker."""
        return f"cuda:{number % self.gpus}" if number < self.with_gpu else "cpu"

    def numbers(self, place: Place) -> list[int]:
        """The workers at a place; all of them where it has none."""
        spans = {"cpu": (self.with_gpu, self.workers), "shared gpu": (0, self.with_gpu)}
        first, end = spans.get(place, (0, min(self.gpus, self.with_gpu)))
        return list(range(first, end)) or list(range(self.workers))


def place(multiply_adds: int, backend: BackendName) -> Place:
    """Where a pair is trained.

    Args:
        multiply_adds: of its dense network for one image.
        backend: who trains; without the kernels no network is better off on a core.
    """
    if multiply_adds < LIGHT and backend != "dense":
        return "cpu"
    return "shared gpu" if multiply_adds < SMALL else "gpu"


def placement(where: Compute) -> Placement | None:
    """How this machine's workers have its GPUs; None where every worker has the same device.

    The latter too where PyTorch sees none of the GPUs, because the driver is too old, say.
    """
    gpus = visible_gpus() if where.kind == "local" and where.device == "auto" else 0
    if not gpus or not where.count or not _usable():
        return None
    return spread(gpus, where.count, len(os.sched_getaffinity(0)))


@cache
def _usable() -> bool:
    import torch

    return torch.cuda.is_available()


def spread(gpus: int, workers: int, cores: int) -> Placement:
    """A placement: at most half of the workers share GPUs, but each GPU has one if possible."""
    most = gpus * min(MOST_PER_GPU, max(1, cores // gpus))
    return Placement(gpus, min(workers, most, max(gpus, workers // 2)), workers)


def announce(found: Placement | None) -> None:
    """Let the workers that this process starts know."""
    if found is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = ",".join(map(str, found))


def announced() -> Placement | None:
    """What the process that started this worker has announced."""
    told = os.environ.get(_VARIABLE)
    return Placement(*map(int, told.split(","))) if told else None
