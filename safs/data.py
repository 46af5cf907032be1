"""Images on the device: folds, normalisation, augmentation and batches by index selection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from safs import seeds
from safs.datasets import (
    DATASETS,
    Arrays,
    Augmentation,
    Dataset,
    fold_of,
    load_part,
    partition,
)


@dataclass(frozen=True)
class Images:
    """A set of images that lives on one device.

    Attributes:
        pixels: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        mean, std: float32 ``[C, 1, 1]``, applied after division by 255.
    """

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, index: Tensor | slice) -> Tensor:
        """float32 ``[B, C, H, W]`` of the chosen images."""
        return (self.pixels[index].float() / 255 - self.mean) / self.std


@dataclass(frozen=True)
class Fold:
    """What one replicate trains and validates on; the two never overlap."""

    train: Images
    validation: Images
    augmentation: Augmentation
    classes: int


@dataclass(frozen=True)
class BatchOrder:
    """Which images come when, as a function of replicate, phase and epoch alone.

    Pruning ratio, method and candidate play no part, so every arm of a replicate sees the same
    batches; the last, partial batch of an epoch is kept.
    """

    root: int
    replicate: int
    phase: seeds.Phase

    def batches(self, fold: Fold, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """``(images, labels)`` of an epoch, augmented on the device."""
        path = (self.replicate, seeds.phase_key(self.phase), epoch)
        images, device = fold.train, fold.train.labels.device
        order = seeds.generator(self.root, "order", *path).permutation(len(images))
        index = torch.from_numpy(order).to(device)
        shift, mirror = self._augmentation(fold.augmentation, len(images), path)
        for start in range(0, len(images), batch_size):
            chosen = index[start : start + batch_size]
            batch = images.normalised(chosen)
            if fold.augmentation.pad:
                batch = crop(batch, shift[chosen.cpu()].to(device), fold.augmentation.pad)
            if fold.augmentation.flip:
                flip = mirror[chosen.cpu()].to(device)[:, None, None, None]
                batch = torch.where(flip, batch.flip(-1), batch)
            yield batch, images.labels[chosen]

    def _augmentation(
        self, augmentation: Augmentation, n: int, path: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Crop offsets ``[N, 2]`` and flips ``[N]``, drawn on the CPU so that devices agree."""
        rng = seeds.generator(self.root, "augment", *path)
        shift = rng.integers(0, 2 * augmentation.pad + 1, size=(n, 2))
        return torch.from_numpy(shift), torch.from_numpy(rng.random(n) < 0.5)


def crop(batch: Tensor, shift: Tensor, pad: int) -> Tensor:
    """Shift each image by its own offset inside a zero border.

    Args:
        batch: ``[B, C, H, W]``.
        shift: int64 ``[B, 2]``, rows and columns in ``0..2*pad``; ``pad`` keeps the image in place.
        pad: width of the border in pixels.
    """
    count, channels, height, width = batch.shape
    padded = functional.pad(batch, (pad, pad, pad, pad))
    rows = shift[:, 0, None] + torch.arange(height, device=batch.device)
    columns = shift[:, 1, None] + torch.arange(width, device=batch.device)
    image = torch.arange(count, device=batch.device)[:, None, None, None]
    channel = torch.arange(channels, device=batch.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def load_fold(
    name: str, replicate: int, root: int, device: torch.device, directory: Path | None = None
) -> Fold:
    """Training and validation images of a replicate (never the test part)."""
    entry = DATASETS[name]
    arrays = load_part(name, "train", directory)
    held = partition(arrays.labels, entry.folds, root) == fold_of(replicate, entry.folds)
    return Fold(
        train=_on_device(entry, arrays, ~held, device),
        validation=_on_device(entry, arrays, held, device),
        augmentation=entry.augmentation,
        classes=entry.classes,
    )


def load_test(name: str, device: torch.device, directory: Path | None = None) -> Images:
    """The test images. Only :mod:`safs.evaluation` calls this, once per method and replicate."""
    arrays = load_part(name, "test", directory)
    return _on_device(DATASETS[name], arrays, np.ones(len(arrays.labels), dtype=bool), device)


def _on_device(entry: Dataset, arrays: Arrays, chosen: np.ndarray, device: torch.device) -> Images:
    channels = entry.shape[0]
    mean = torch.tensor(entry.mean or (0.0,) * channels)[:, None, None]
    std = torch.tensor(entry.std or (1.0,) * channels)[:, None, None]
    return Images(
        pixels=torch.from_numpy(np.ascontiguousarray(arrays.images[chosen])).to(device),
        labels=torch.from_numpy(arrays.labels[chosen]).to(device),
        mean=mean.to(device),
        std=std.to(device),
    )
