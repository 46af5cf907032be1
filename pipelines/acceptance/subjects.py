"""What the acceptance run tries things on: networks, their images, trainings of a few steps."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from safs import masks, slots
from safs.datasets import Augmentation
from safs.masks import Mask
from safs.networks import build
from safs.pruning.prune import prune
from safs.spec import Acceleration, Recipe
from safs.training.data import BatchOrder, Fold, Images
from safs.training.loop import Outcome, Snapshot, train

BATCH, IMAGES = 32, 48  # the last batch is not full
ORDER = BatchOrder(1, 0, "final")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A network of the paper and the images it takes."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    augmentation: Augmentation
    options: dict[str, Any] = field(default_factory=dict)


_CROPPED = Augmentation(pad=4, flip=True)
NETWORKS = (
    Subject("lenet5", (1, 28, 28), 10, Augmentation()),
    Subject("vgg16", (3, 32, 32), 10, _CROPPED),
    Subject("resnet18", (3, 32, 32), 10, _CROPPED),
    Subject("efficientnet_b0", (3, 16, 16), 1000, Augmentation(pad=2, flip=True)),
)


def fold(network: Subject, device: torch.device, count: int = IMAGES) -> Fold:
    """Noise with labels, the same on every device."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, *network.shape), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, network.classes, count))
    centre = torch.full((network.shape[0], 1, 1), 0.5)
    images = Images(*(part.to(device) for part in (pixels, labels, centre, centre)))
    return Fold(images, images, network.augmentation, network.classes)


def pruned(network: Subject, ratio: float = 0.5) -> tuple[fx.GraphModule, Mask]:
    """A pruned network on the CPU, with alpha and beta in its slots."""
    made = build(network.name, network.shape, network.classes, options=network.options)
    mask = prune(made, ratio)
    slots.fill(made, [slot.operator for slot in slots.slots(made).values()], scaled=True)
    masks.apply(mask, made)
    return made, mask


class Attempt(NamedTuple):
    """A training's outcome, what it left, and its states after every epoch."""

    outcome: Outcome
    weights: dict[str, Tensor]
    states: list[dict[str, Any]]


def trained(
    network: Subject,
    device: torch.device,
    optimizer: str = "sgd",
    epochs: int = 2,
    resume: dict[str, Any] | None = None,
    acceleration: Acceleration | None = None,
) -> Attempt:
    """Train a pruned copy for a few steps with PyTorch."""
    made, mask = pruned(network)
    states: list[dict[str, Any]] = []

    def keep(snapshot: Snapshot) -> None:
        states.append(copy.deepcopy(snapshot.state()))

    outcome = train(
        made.to(device), fold(network, device), recipe(optimizer), epochs, ORDER, mask=mask,
        acceleration=acceleration, validate="every", resume=resume, on_epoch=keep,
    )  # fmt: skip
    weights = {name: value.detach().cpu().clone() for name, value in made.state_dict().items()}
    return Attempt(outcome, weights, states)


def recipe(optimizer: str = "sgd") -> Recipe:
    """A recipe that learns noise without diverging."""
    settings: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
    if optimizer != "fromage":
        settings["weight_decay"] = 5e-4
    return Recipe(optimizer=optimizer, lr=0.001, batch_size=BATCH, **settings)
