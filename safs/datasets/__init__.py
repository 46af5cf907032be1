"""Data sets, one file each; importing this package registers them all."""

from safs.datasets import generated, mnist5k
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
    "dataset",
    "fold_of",
    "generated",
    "load_part",
    "mnist5k",
    "partition",
]
