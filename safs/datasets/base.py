"""What a data set is, and the split of its training images into folds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from safs import seeds
from safs.errors import SafsError
from safs.registry import Registry
from safs.spec import Spec

Part = Literal["train", "test"]


class Arrays(NamedTuple):
    """Images as uint8 ``[N, C, H, W]`` and labels as int64 ``[N]``."""

    images: np.ndarray
    labels: np.ndarray

    def checksum(self) -> str:
        """SHA-256 over shape, pixels and labels: what records identify data by."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()


class Augmentation(Spec):
    """Random crop from a zero-padded image, then a horizontal flip, for training batches only.

    ``pad`` is in pixels on each side; 0 means no crop. ``flip`` mirrors with probability one half.
    """

    pad: Annotated[int, Field(ge=0, le=1024)] = 0
    flip: bool = False


@dataclass(frozen=True)
class Dataset:
    """An entry of :data:`DATASETS`.

    Attributes:
        load: reads one part; the directory holds downloaded files, for data sets that need any.
        shape: ``(channels, height, width)`` of an image.
        classes: number of classes.
        folds: k of the k-fold partition of the training part (``fidelity``: 5 on MNIST-5k).
        mean, std: per-channel normalisation after division by 255.
    """

    name: str
    label: str
    load: Callable[[Part, Path | None], Arrays]
    shape: tuple[int, int, int]
    classes: int
    folds: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)


DATASETS: Registry[Dataset] = Registry("data set")


def dataset(
    name: str,
    *,
    label: str,
    shape: tuple[int, int, int],
    classes: int,
    folds: int,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    augmentation: Augmentation | None = None,
) -> Callable[[Callable[[Part, Path | None], Arrays]], Dataset]:
    """Register the decorated loader ``(part, directory) -> Arrays`` as a data set."""

    def register(load: Callable[[Part, Path | None], Arrays]) -> Dataset:
        entry = Dataset(
            name, label, load, shape, classes, folds, mean, std, augmentation or Augmentation()
        )
        return DATASETS.add(name, entry, load)

    return register


@lru_cache(maxsize=2)
def load_part(name: str, part: Part, directory: Path | None = None) -> Arrays:
    """One part of a data set, checked against its declared shape and classes."""
    entry = DATASETS[name]
    arrays = entry.load(part, directory)
    if arrays.images.shape[1:] != entry.shape or arrays.images.dtype != np.uint8:
        found = f"{arrays.images.dtype} {arrays.images.shape[1:]}"
        raise SafsError(f"data set {name!r}: images are {found}, expected uint8 {entry.shape}")
    if not set(np.unique(arrays.labels)) <= set(range(entry.classes)):
        raise SafsError(f"data set {name!r}: a label lies outside 0..{entry.classes - 1}")
    return arrays


def fold_of(replicate: int, folds: int) -> int:
    """Replicate r validates on fold r mod k."""
    return replicate % folds


def partition(labels: np.ndarray, folds: int, root: int) -> np.ndarray:
    """The fold of every training image: a stratified k-fold partition under one global split seed.

    Each class is spread over the folds as evenly as its size allows, and so are the folds' totals
    (the classes take turns at starting).

    Returns:
        int64 array ``[N]`` with values in ``0..folds-1``.
    """
    rng = seeds.generator(root, "split")
    fold = np.empty(len(labels), dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return fold


def stratified_holdout(labels: np.ndarray, per_class: int, root: int) -> np.ndarray:
    """Boolean mask of a fixed test part with ``per_class`` images of each class."""
    rng = seeds.generator(root, "split", 1)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held[rng.permutation(np.flatnonzero(labels == label))[:per_class]] = True
    return held
