"""Where work runs, as told by a file and by the environment.

``compute.yaml`` in the repository's root (not in git), or the file that ``SAFS_COMPUTE`` names, is
a :class:`Compute`. The environment is laid over it:

``DASK_SCHEDULER_ADDRESS``  use this running Dask cluster (the files must be on a shared disk);
``SAFS_WORKERS``            number of workers; 0 runs everything in the stage's own process;
``SAFS_THREADS``            threads that share a training on the kernels;
``SAFS_DEVICE``             auto, cpu, cuda or cuda:N;
``SAFS_DATA``               folder of downloaded data sets;
``SAFS_IDLE_SECONDS``       how long workers without work stay.

Nothing here changes a parameter or a digest or, where the kernels train, a bit of a result.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.config.reading import read_yaml
from safs.checked import validated
from safs.spec import Positive, Spec

FILE = Path("compute.yaml")
_ENVIRONMENT = {
    "SAFS_WORKERS": "workers",
    "SAFS_THREADS": "threads",
    "SAFS_DEVICE": "device",
    "SAFS_IDLE_SECONDS": "idle_seconds",
}


def _like(pattern: str, expected: str) -> AfterValidator:
    """A text of a form that errors describe in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r}: expected {expected}")
        return value

    return AfterValidator(check)


class Slurm(Spec):
    """The jobs that workers run in, one core per worker.

    ``workers_per_job`` workers share a job; with GPUs ask for as many in ``directives``, e.g.
    ``--gres=gpu:1``. ``cpus`` is the number of cores of a job (default: one per worker), ``memory``
    that of a job, ``walltime`` is ``hh:mm:ss``; a job that ends is replaced. ``interface`` is the
    network interface that both the workers and this machine's scheduler are reached by.
    ``prologue`` are shell lines in front of the workers, e.g. ``module load``.
    """

    memory: str
    walltime: Annotated[str, _like(r"\d+:[0-5]\d:[0-5]\d", "hh:mm:ss")]
    queue: str | None = None
    account: str | None = None
    workers_per_job: Positive = 1
    cpus: Positive | None = None
    interface: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()


class Compute(Spec):
    """What trains: local processes, a running Dask cluster, or jobs of a SLURM queue.

    ``workers`` is their number (default: one per core, with ``device: cuda`` one per GPU); a
    running cluster has its own. ``threads`` share a training on the kernels (default: one, or more
    where a run has more cores than trainings at a time). Workers without work leave after
    ``idle_seconds``.
    """

    kind: Literal["local", "address", "slurm"] = "local"
    workers: Annotated[int, Field(ge=0)] | None = None
    threads: Positive | None = None
    device: Annotated[str, _like(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N")] = "auto"
    idle_seconds: Annotated[float, Field(gt=0)] = 60.0
    address: str | None = None
    slurm: Slurm | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Compute:
        for section in ("address", "slurm"):
            if (self.kind == section) != (getattr(self, section) is not None):
                raise ValueError(f"kind {section} and the key {section} go together")
        if self.kind == "slurm" and not self.workers:
            raise ValueError("kind slurm needs workers: how many, 1 or more")
        return self

    @property
    def count(self) -> int:
        """Workers of this run; 0 for the stage's own process."""
        return default_workers(self.device) if self.workers is None else self.workers


def settings() -> Compute:
    """What file and environment say.

    Raises:
        SafsError: one line per problem, naming file or variable, key, value and what was expected.
    """
    told = os.environ.get("SAFS_COMPUTE")
    file = Path(told) if told else FILE
    values: dict[str, Any] = read_yaml(file) if told or file.exists() else {}
    source = [str(file)] if values else []
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address:
        values = {k: v for k, v in values.items() if k not in ("workers", "slurm")}
        values |= {"kind": "address", "address": address}
        source.append("DASK_SCHEDULER_ADDRESS")
    for name, key in _ENVIRONMENT.items():
        if os.environ.get(name) == "":
            del os.environ[name]  # for the kernels too, which read theirs themselves
        if name in os.environ:
            values[key] = os.environ[name]
            source.append(name)
    return validated(Compute, values, " with ".join(source))


def data_directory() -> Path | None:
    """Where downloaded data sets lie (``SAFS_DATA``)."""
    value = os.environ.get("SAFS_DATA")
    return Path(value) if value else None


def default_workers(device: str, machine: Path = Path("/dev")) -> int:
    """One worker per core, and at least one per GPU that this process may use; with ``cuda`` one
    per GPU.

    Args:
        device: the device asked for.
        machine: where the GPUs' device files are.
    """
    cores, gpus = len(os.sched_getaffinity(0)), visible_gpus(machine)
    if device == "auto":
        return max(cores, gpus)
    if device == "cuda" and gpus:
        return gpus
    return 1 if device.startswith("cuda:") else cores


def gpus_wanted(where: Compute) -> bool:
    """Whether workers of this host would train on its GPUs if PyTorch could use them."""
    return where.kind == "local" and where.device == "auto" and visible_gpus() > 0


def visible_gpus(machine: Path = Path("/dev")) -> int:
    """GPUs that this process may use: of ``CUDA_VISIBLE_DEVICES`` those before the first entry that
    is none, or stands before, as in CUDA.

    A process sees one MIG instance, however many are named.
    """
    gpus = _gpus(machine)
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None or not gpus:
        return gpus
    seen: list[str] = []
    for entry in map(str.strip, told.split(",")):
        if entry in seen or not _names_one(entry, gpus):
            break
        seen.append(entry)
    return min(len(seen), 1) if any(entry.startswith("MIG-") for entry in seen) else len(seen)


def _names_one(entry: str, gpus: int) -> bool:
    """Whether an entry can name a GPU: by its number, or by a UUID, which is taken on trust."""
    return int(entry) < gpus if entry.isdecimal() else entry.startswith(("GPU-", "MIG-"))


def _gpus(machine: Path) -> int:
    """GPUs of the machine by its device files; under WSL2, which has none, as nvidia-smi says."""
    found = [p for p in machine.glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)]
    if found or not (machine / "dxg").exists():
        return len(found)
    try:
        told = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(told.stdout.splitlines())
