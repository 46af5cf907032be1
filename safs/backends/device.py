"""Where tensors live, and what decides the bits of a result."""

from __future__ import annotations

import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import Any

import torch

from safs import kernels
from safs.backends import precision
from safs.errors import SafsError
from safs.processor import cpu_name

_LIBRARIES = ("numpy", "torch", "torchvision")


def pick(name: str = "auto") -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SafsError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SafsError(f"device {name!r}: torch sees no CUDA device here")
    return device


def prepare(device: torch.device) -> None:
    """Take over a process: one thread, this device, and deterministic algorithms or an error.

    So results do not depend on the load. An operation that CUDA can only do in an order that varies
    raises. That was tried on a simulated device and on an H200.
    """
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault(_CUBLAS, _CUBLAS_VALUE)
        _determine(strict=True)


_CUBLAS, _CUBLAS_VALUE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def _determine(*, strict: bool) -> None:
    torch.cuda.init()  # the memory counters of a device with a number do not do it themselves
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # Deterministic mode would also write NaN over every new tensor before its use.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    precision.set_tf32(False)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms in float32 while it lasts; then the caller's settings again.

    Where :func:`prepare` takes over a process, this borrows one: the number of threads stays, and
    an operation of the caller's network that has no deterministic algorithm is a warning.
    """
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with precision.kept(), _workspace(device):
            if device.type == "cuda":
                _determine(strict=False)
            yield
    finally:
        memory.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(strict, warn_only=lenient)


@contextmanager
def _workspace(device: torch.device) -> Iterator[None]:
    """The workspace of cuBLAS that makes it deterministic; it counts from its first call on."""
    if device.type != "cuda" or _CUBLAS in os.environ:
        yield
        return
    if torch.cuda.is_initialized():
        warnings.warn(
            f"CUDA is in use already: two runs agree bit for bit only if Python is started with "
            f"{_CUBLAS}={_CUBLAS_VALUE}", stacklevel=2,
        )  # fmt: skip
    os.environ[_CUBLAS] = _CUBLAS_VALUE
    try:
        yield
    finally:
        del os.environ[_CUBLAS]


def seed_generators(device: torch.device, value: int) -> None:
    """Seed the CPU's generator and that of one CUDA device; those of others stay as they are."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def name(device: torch.device) -> str:
    """The processor's marketing name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def clock(device: torch.device) -> Callable[[], float]:
    """A clock of the seconds that a training costs.

    On a CPU processor time, so that other load on the machine does not count: that of the calling
    thread, where it does all the work of a training, else of the process. Wall time on CUDA.
    """
    if device.type != "cpu":
        return time.perf_counter
    return time.thread_time if kernels.threads() == 1 else time.process_time


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _LIBRARIES}


def bit_identity(device: torch.device, backend: str) -> dict[str, str]:
    """What two runs must share to agree bit for bit: it goes into the digests of scratch work.

    The libraries count for what they draw at random. Where PyTorch does the arithmetic, so do the
    processor and what PyTorch makes of it; on CUDA the libraries and the driver below it.

    Args:
        device: where training runs.
        backend: what does the steps (:attr:`safs.training.loop.Outcome.backend`).
    """
    identity = {"device": device.type} | _versions()
    if backend != "dense":
        identity["kernels"] = kernels.source_digest()
    if backend != "sparse":
        identity |= {
            "processor": name(device),
            **(_on_cuda if device.type == "cuda" else _on_cpu)(),
        }
    return identity


def _on_cpu() -> dict[str, str]:
    return {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


@cache
def _on_cuda() -> dict[str, str]:
    cudnn: Any = torch.backends.cudnn
    return {"cuda": str(torch.version.cuda), "cudnn": str(cudnn.version()), "driver": driver()}


@cache
def driver() -> str:
    """The version of NVIDIA's driver, or ``unknown``."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (told.split() or ["unknown"])[0]


def whereabouts(device: torch.device, backend: str) -> dict[str, str]:
    """What a training ran on: device, threads and, where the kernels took part, their compiler.

    On CUDA also whether an operation without a deterministic algorithm would have been an error.
    """
    threads = kernels.threads() if backend == "sparse" else torch.get_num_threads()
    found = {"device": device.type, "name": name(device), "threads": str(threads)}
    if device.type == "cuda":
        lenient = torch.is_deterministic_algorithms_warn_only_enabled()
        strict = torch.are_deterministic_algorithms_enabled() and not lenient
        found["deterministic"] = "yes" if strict else "not enforced"
    if backend in ("sparse", "mixed"):
        found["compiler"] = kernels.built()["compiler"]
    return found


def reset_peak(device: torch.device) -> int:
    """Start to watch the memory that :func:`peak_memory` reports; the bytes in use now, on CUDA."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_memory(device: torch.device, foreign: int = 0) -> dict[str, int | str]:
    """The most memory in use, in bytes, and of what.

    On CUDA: of torch's allocator since :func:`reset_peak`. On the CPU: resident memory of the whole
    process since its start, which the system does not let go of.

    Args:
        device: where to look.
        foreign: bytes on a CUDA device that belong to other work of this process.
    """
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device) - foreign, "of": "device"}
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": kilobytes * (1 if platform.system() == "Darwin" else 1024), "of": "process"}
