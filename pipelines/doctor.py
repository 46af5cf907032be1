"""What a machine has of what a run needs, and the command that brings what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

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

    @property
    def row(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Python, packages, kernels, devices, data, disk and repository."""
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _packages, _kernels, _devices, _data, _disk, _repository,
    )  # fmt: skip
    return [finding for part in parts for finding in part()]


def _python() -> Iterator[Finding]:
    new = sys.version_info >= (3, 11)
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding(
        "Python", "ok" if new else "missing", seen, "" if new else "install 3.11 or newer"
    )


def _packages() -> Iterator[Finding]:
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    there = [f"{name} {metadata.version(name)}" for name in NEEDED if name not in absent]
    if absent:
        yield Finding("packages", "missing", f"not there: {', '.join(absent)}", INSTALL)
    else:
        yield Finding("packages", "ok", ", ".join(there))


def _kernels() -> Iterator[Finding]:
    """Compiled and loaded; without them PyTorch trains, more slowly."""
    from safs.kernels import build

    try:
        build.library()
        yield Finding("kernels", "ok", f"compiled by {' '.join(build.compiler())}, loaded")
    except SafsError as error:
        brings = "pip install 'safs-bench[compiler]'"
        yield Finding("kernels", "optional", str(error), brings)


def _devices() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding("cores", "ok", str(cores))
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("GPUs", "ok" if names else "optional", ", ".join(names) or "none that torch sees")


def _data() -> Iterator[Finding]:
    """Data sets that have files of their own; the default one comes with a package."""
    from pipelines.engine.compute import data_directory
    from safs.datasets import cifar10, imagenet16, mnist
    from safs.datasets.source import DEFAULT_DIRECTORY

    folder = data_directory() or DEFAULT_DIRECTORY
    sources = (mnist.MNIST_SOURCE, mnist.FASHION_MNIST_SOURCE, cifar10.SOURCE)
    there = [source.folder for source in sources if source.all_in(folder)]
    there += [imagenet16.FOLDER] * (folder / imagenet16.FOLDER).is_dir()
    seen = f"mnist5k, and in {folder}: {', '.join(there) or 'nothing'}"
    yield Finding("data", "ok" if there else "optional", seen, "" if there else "--data-dir FOLDER")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= SPACE_GIB
    yield Finding("disk", "ok" if enough else "missing", f"{free:.1f} GiB free here",
                  "" if enough else f"make room: {SPACE_GIB} GiB or more")  # fmt: skip


def _repository() -> Iterator[Finding]:
    from pipelines.engine import environment

    try:
        commit = environment.commit()
    except SafsError as error:
        yield Finding("repository", "missing", str(error), "git init, or clone the repository")
    else:
        yield Finding("repository", "ok", commit or "no commit yet")
