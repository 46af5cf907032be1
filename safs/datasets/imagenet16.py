"""ImageNet-16: all of ImageNet's images at 16x16 pixels.

Chrabaszcz, Loshchilov, Hutter, "A Downsampled Variant of ImageNet as an Alternative to the CIFAR
datasets". The official batch files, in either of their formats, are converted once into arrays that
are mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from safs.datasets import batches, store
from safs.datasets.base import Arrays, Augmentation, Part, dataset
from safs.datasets.source import DEFAULT_DIRECTORY
from safs.errors import SafsError

FOLDER = "imagenet16"
CLASSES = 1000
_SHAPE = (3, 16, 16)


@dataset(
    "imagenet16",
    label="ImageNet-16",
    shape=_SHAPE,
    classes=CLASSES,
    folds=25,
    # Dong, Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search".
    mean=(122.68 / 255, 116.66 / 255, 104.01 / 255),
    std=(63.22 / 255, 61.26 / 255, 65.09 / 255),
    augmentation=Augmentation(pad=2, flip=True),
)
def imagenet16(part: Part, directory: Path | None, names: Sequence[str] | None = None) -> Arrays:
    """1,281,167 images in 25 folds; ImageNet's 50,000 validation images to test.

    Args:
        part: ``train`` or ``test``.
        directory: the data directory, which or whose folder ``imagenet16`` holds
            ``train_data_batch_1`` to ``train_data_batch_10`` and ``val_data``, pickles or ``.npz``;
            None means ``data``.
        names: names of the part's batch files without their ending; None means the official ones.

    Returns:
        Images mapped from a file, not read: they take no memory until they are used.

    Raises:
        SafsError: files are missing, damaged, or hold anything but arrays.
    """
    base = directory or DEFAULT_DIRECTORY
    names = names or batches.NAMES[part]
    direct = not (base / FOLDER).is_dir() and any(batches.find(base, name) for name in names)
    folder = base if direct else base / FOLDER
    files = [found for name in names if (found := batches.find(folder, name))]
    if len(files) < len(names) and (files or not store.exists(folder, part)):
        missing = [name for name in names if not batches.find(folder, name)]
        raise SafsError(
            f"missing data: put {', '.join(missing)} (the official downsampled-ImageNet batch "
            f"files, pickles or .npz, or those that safs.datasets.downsample makes) into {folder}"
        )
    if files:
        store.refresh(folder, part, files, _read)
    return store.load(folder, part)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch file; the official labels count from 1."""
    data, labels = batches.read(path)
    if data.size != len(labels) * np.prod(_SHAPE) or data.dtype != np.uint8 or not data.size:
        raise SafsError(f"{path}: {data.dtype} {data.shape}, expected uint8 [{len(labels)}, 768]")
    if not (labels.min() >= 1 and labels.max() <= CLASSES):
        raise SafsError(f"{path}: a label lies outside 1..{CLASSES}")
    return data.reshape(-1, *_SHAPE), labels - 1
