"""Generated images for smoke tests: learnable, tiny, and never mistaken for a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from safs.datasets.base import Arrays, Augmentation, Part, dataset

_PER_CLASS = {"train": 24, "test": 6}


@dataset("generated_digits", label="generated 28x28", shape=(1, 28, 28), classes=10, folds=3)
def generated_digits(part: Part, directory: Path | None) -> Arrays:
    """Ten blurred random templates plus noise, in the shape of MNIST."""
    return templates(part, (1, 28, 28), classes=10)


@dataset(
    "generated_cifar",
    label="generated 32x32",
    shape=(3, 32, 32),
    classes=10,
    folds=3,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    augmentation=Augmentation(pad=4, flip=True),
)
def generated_cifar(part: Part, directory: Path | None) -> Arrays:
    """The same in the shape of CIFAR-10, with its augmentation."""
    return templates(part, (3, 32, 32), classes=10)


@dataset(
    "generated_imagenet16",
    label="generated 16x16",
    shape=(3, 16, 16),
    classes=20,
    folds=3,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    augmentation=Augmentation(pad=2, flip=True),
)
def generated_imagenet16(part: Part, directory: Path | None) -> Arrays:
    """The same in the shape of ImageNet-16, with its augmentation and 20 classes."""
    return templates(part, (3, 16, 16), classes=20)


def templates(part: Part, shape: tuple[int, int, int], classes: int) -> Arrays:
    """One smooth random template per class; an image is its class's template plus noise."""
    channels, height, width = shape
    coarse = np.random.default_rng(0).uniform(0, 255, (classes, channels, 4, 4))
    template = coarse.repeat(-(-height // 4), axis=2).repeat(-(-width // 4), axis=3)
    labels = np.tile(np.arange(classes), _PER_CLASS[part])
    noise = np.random.default_rng(1 if part == "train" else 2).normal(0, 40, (len(labels), *shape))
    images = template[labels][:, :, :height, :width] + noise
    return Arrays(images.clip(0, 255).astype(np.uint8), labels.astype(np.int64))
