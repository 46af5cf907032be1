"""How many kernels a training step launches, counted on the simulated device.

PYTHONPATH=.:tests python -m simulated.launches
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from tabulate import tabulate

from safs import masks
from safs.backends.dense import DenseBackend
from safs.datasets import DATASETS
from safs.networks import build
from safs.pruning.prune import prune
from safs.spec import OptimizerName, Recipe
from safs.training.data import BatchOrder, Fold, Images
from simulated.counts import Counts
from simulated.cuda import Simulated, installed

NARROW: dict[str, dict[str, Any]] = {
    "lenet5": {},
    "vgg16": {"width": 1 / 16},
    "resnet18": {"width": 1 / 16},
    "efficientnet_b0": {"width": 0.1},
}
"""Options of the four networks that leave a few channels: the width changes no launch."""

DATA = {
    "lenet5": "generated_digits",
    "vgg16": "generated_cifar",
    "resnet18": "generated_cifar",
    "efficientnet_b0": "generated_imagenet16",
}
"""A data set of the shape, with the augmentation, that each network trains on."""

_RATIO, _BATCH = 0.5, 4


class PerStep(NamedTuple):
    """Of one training step: launches and transfers, the epoch's own shared out over its steps."""

    network: str
    optimizer: str
    launches: float
    to_device: float
    to_host: float
    waits: float

    @property
    def total(self) -> float:
        """What the host gives the device to do: launches and copies to it."""
        return self.launches + self.to_device


def noise(dataset: str, count: int, device: torch.device) -> Fold:
    """Random images in the shape and with the augmentation of a data set, on a device."""
    entry, rng = DATASETS[dataset], np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, *entry.shape), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, entry.classes, count))
    centre = torch.full((entry.shape[0], 1, 1), 0.5)
    images = Images(*(part.to(device) for part in (pixels, labels, centre, centre)))
    return Fold(images, images, entry.augmentation, entry.classes)


def backend(
    network: str, optimizer: OptimizerName, device: torch.device, steps: int
) -> DenseBackend:
    """A narrow masked network, about to train epochs of ``steps``."""
    entry = DATASETS[DATA[network]]
    model = build(network, entry.shape, entry.classes, options=NARROW[network])
    mask = prune(model, _RATIO)
    masks.apply(mask, model)
    recipe = Recipe(
        optimizer=optimizer,
        lr=0.001,
        momentum=0.9 if optimizer == "sgd" else 0.0,
        weight_decay=0.0 if optimizer == "fromage" else 5e-4,
        batch_size=_BATCH,
    )
    fold = noise(DATA[network], steps * _BATCH, device)
    return DenseBackend(model.to(device), fold, recipe, BatchOrder(1, 0, "final"), mask)


def epoch(
    simulated: Simulated, network: str, optimizer: OptimizerName = "sgd", steps: int = 2
) -> Counts:
    """The counts of a training epoch after a first step, in which optimisers make their state."""
    training = backend(network, optimizer, simulated.device, steps)
    whole, training.fold = training.fold, noise(DATA[network], _BATCH, simulated.device)
    training.train_epoch(0, 0.001)
    training.fold = whole
    with simulated.counting() as counts:
        training.train_epoch(1, 0.001)
    return counts


def per_step(
    simulated: Simulated, network: str, optimizer: OptimizerName = "sgd", steps: int = 2
) -> PerStep:
    """Launches and transfers of one step, see :func:`epoch`."""
    counts = epoch(simulated, network, optimizer, steps)
    moved = (counts.to_device, counts.to_host, counts.waits)
    whole = (counts.launches, *(counter.total() for counter in moved))
    return PerStep(network, optimizer, *(number / steps for number in whole))


def table(rows: Iterable[PerStep]) -> str:
    """The counts as text, a line for each network and optimiser."""
    names = ("network", "optimiser", "launches", "to device", "to host", "waits", "total")
    return tabulate([(*row, row.total) for row in rows], names, floatfmt="g")


if __name__ == "__main__":
    torch.set_num_threads(1)
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "fromage", "tadam")
    with installed() as there:
        print(table(per_step(there, name, o) for name in NARROW for o in optimizers))
