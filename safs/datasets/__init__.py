"""Data sets, one file each; importing this package registers them all."""

from safs.datasets import cifar10, fashion_mnist_rgb, generated, imagenet16, mnist, mnist5k
from safs.datasets.base import (
    DATASETS,
    Arrays,
    Augmentation,
    Dataset,
    Part,
    dataset,
    fold_of,
    load_part,
    partition,
)

__all__ = [
    "DATASETS",
    "Arrays",
    "Augmentation",
    "Dataset",
    "Part",
    "cifar10",
    "dataset",
    "fashion_mnist_rgb",
    "fold_of",
    "generated",
    "imagenet16",
    "load_part",
    "mnist",
    "mnist5k",
    "partition",
]
