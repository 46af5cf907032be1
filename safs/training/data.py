"""Images on the device: folds, normalisation, augmentation and batches by index selection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from safs import seeds
from safs.datasets import DATASETS, Arrays, Augmentation, Dataset, fold_of, load_part, partition


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

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        return sum(part.nbytes for part in (self.pixels, self.labels, self.mean, self.std))


@dataclass(frozen=True)
class Fold:
    """What one replicate trains and validates on; the two never overlap."""

    train: Images
    validation: Images
    augmentation: Augmentation
    classes: int

    @property
    def bytes(self) -> int:
        """Memory of both sets of images."""
        return self.train.bytes + self.validation.bytes


class Draw(NamedTuple):
    """The random choices of one epoch, drawn on the CPU so that devices agree.

    Attributes:
        order: int64 ``[N]``, the images in the order in which they come.
        shift: int64 ``[N, 2]``, the crop of each image (see :func:`crop`); None without cropping.
        mirror: bool ``[N]``, whether each image is flipped; None without flips.
    """

    order: np.ndarray
    shift: np.ndarray | None
    mirror: np.ndarray | None


@dataclass(frozen=True)
class BatchOrder:
    """Which images come when, as a function of replicate, phase, final and epoch alone.

    Pruning ratio, arm and candidate play no part, so every arm of a replicate sees the same
    batches; the last, partial batch of an epoch is kept. ``final`` tells the final trainings of an
    arm apart, which share all other random choices.
    """

    root: int
    replicate: int
    phase: seeds.Phase
    final: int = 0

    def draw(self, fold: Fold, epoch: int) -> Draw:
        """The random choices of an epoch."""
        path = (self.replicate, seeds.phase_key(self.phase), epoch)
        count, pad, flip = len(fold.train), fold.augmentation.pad, fold.augmentation.flip
        draw_order = _kept_order if count <= _KEPT_IMAGES else _order
        order = draw_order(self.root, (*path, self.final) if self.final else path, count)
        if not (pad or flip):
            return Draw(order, None, None)
        rng = seeds.generator(self.root, "augment", *path)
        shift, mirror = rng.integers(0, 2 * pad + 1, size=(count, 2)), rng.random(count) < 0.5
        return Draw(order, shift if pad else None, mirror if flip else None)

    def batches(self, fold: Fold, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """``(images, labels)`` of an epoch, augmented on the device.

        What was drawn goes there once, so that no step waits for a copy.
        """
        draw, images = self.draw(fold, epoch), fold.train
        device, pad = images.labels.device, fold.augmentation.pad
        order, shift, mirror = (
            None if part is None else torch.tensor(part).to(device) for part in draw
        )
        assert order is not None
        for index in order.split(batch_size):
            batch = images.normalised(index)
            if shift is not None:
                batch = crop(batch, shift[index], pad)
            if mirror is not None:
                batch = torch.where(mirror[index, None, None, None], batch.flip(-1), batch)
            yield batch, images.labels[index]


def _order(root: int, path: tuple[int, ...], count: int) -> np.ndarray:
    order = seeds.generator(root, "order", *path).permutation(count)
    order.setflags(write=False)
    return order


_KEPT_IMAGES = 8192
"""Up to here an order costs a part of its epoch, and a thousand of them take 64 MB."""
_kept_order = lru_cache(maxsize=1024)(_order)


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
    """The test images. Only :mod:`safs.training.evaluation` asks, once per arm and replicate."""
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
