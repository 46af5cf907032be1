"""What several tasks need: this worker's device and images, networks, tensors on the disk."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import compute
from pipelines.tasks.jobs import Files, Job
from safs.files import replacing
from safs.spec import NetworkSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from safs.training.data import Fold
    from safs.training.start import Pruned

WEIGHTS = Path("artefact.safetensors")
"""Where a task leaves the weights of a network, or a mask, in its folder."""


def own_device() -> torch.device:
    """This worker's device, prepared: the one that it was given, or with several GPUs its own."""
    import torch

    from safs.backends.device import pick, prepare

    given, asked = compute.announced(), compute.settings()
    number = compute.worker_number()
    device = pick(given.device(number) if given else asked.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", number % torch.cuda.device_count())
    prepare(device)
    if asked.threads:
        os.environ["SAFS_THREADS"] = str(asked.threads)
    return device


def empty(network: NetworkSpec, dataset: str, *, seed: int = 0, replicate: int = 0) -> nn.Module:
    """A freshly initialised network for a data set."""
    from safs.datasets import DATASETS
    from safs.networks import build

    entry = DATASETS[dataset]
    return build(
        network.name,
        entry.shape,
        entry.classes,
        root=seed,
        replicate=replicate,
        options=network.options,
    )


def multiply_adds(network: NetworkSpec, dataset: str) -> int:
    """Of the dense network, for one image."""
    import torch

    from safs.datasets import DATASETS
    from safs.networks import prunable
    from safs.pruning import compression

    model = empty(network, dataset)
    whole = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(model).items()}
    return compression.account(model, whole, DATASETS[dataset].shape).macs


def slot_names(network: NetworkSpec, dataset: str) -> tuple[str, ...]:
    """The activation slots of a network, in the order of use."""
    from safs.slots import slots

    return tuple(slots(empty(network, dataset)))


def load_dense(network: NetworkSpec, dataset: str, path: Path) -> nn.Module:
    """A trained dense network with its default operators, on the CPU."""
    model = empty(network, dataset)
    model.load_state_dict(load(path))
    return model


def starting_point(job: Job, files: Files, fold: Fold) -> tuple[nn.Module, Any]:
    """The network a job starts from, on the fold's device, and its mask."""
    if job.chromosome is None:
        return empty(job.network, job.dataset, seed=job.seed, replicate=job.replicate), None
    assert files.dense is not None and files.mask is not None
    key = (job.network.model_dump_json(), job.dataset, job.dense, job.mask)
    pruned = _pruned_of(key, str(own_device()), files.dense, files.mask)
    network = pruned.network(job.chromosome, fold.train, scaled=job.scaled, train_own=job.train_own)
    return network, pruned.mask


@lru_cache(maxsize=4)
def _pruned_of(
    key: tuple[str, str, str | None, str | None], device: str, dense: Path, mask: Path
) -> Pruned:
    """What many candidates start from; the key has the digests of both files."""
    from safs.training.start import Pruned

    network = load_dense(NetworkSpec.model_validate_json(key[0]), key[1], dense)
    return Pruned(network.to(device), load(mask))


def images_of(job: Job, files: Files) -> Fold:
    """The images of a job, on this worker's device."""
    key = (job.dataset, job.replicate, job.seed, job.data)
    return _fold_of(key, str(own_device()), files.data, files.folds)


@lru_cache(maxsize=2)
def _fold_of(
    key: tuple[str, int, int, str], device: str, data: Path | None, folder: Path | None
) -> Fold:
    import torch

    from pipelines.storage import folds

    return folds.load(*key, torch.device(device), data, folder)


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors of weights, or a mask, as safetensors; equal ones make equal files."""
    from safetensors import torch as safetensors

    with replacing(path) as temporary:
        plain = {name: _plain(tensor) for name, tensor in tensors.items()}
        temporary.write_bytes(safetensors.save(plain))  # save_file's errors are no OSError


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU, with one NaN for all: which of them it is depends on the processor."""
    found = tensor.detach().cpu().contiguous()
    if not found.is_floating_point():
        return found
    return found.masked_fill(found.isnan(), float("nan"))


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)
