"""Fashion-MNIST as the networks for colour images take it: 32 x 32 or 16 x 16, three channels.

Real images for VGG-16, ResNet-18 and EfficientNet-B0 where neither CIFAR-10 nor ImageNet is at
hand. They are not in the paper. So that such networks train on a CPU, the training part is 6,000 of
the 60,000 images, 600 of each class, the same ones for every seed: with six folds 5,000 train and
1,000 validate. The test part is the official one, all 10,000 images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from safs.datasets.base import Arrays, Part, dataset, stratified_holdout
from safs.datasets.mnist import FASHION_MNIST_SOURCE, images_of
from safs.datasets.source import OfficialFiles
from safs.errors import SafsError

PER_CLASS = 600
"""Training images of each class."""
_PAD = 2
_CHOICE_SEED = 0
CHECKSUMS = {
    (32, "train"): "a941f8e285aeccb913bfd84a6e539f7d3aa50c9432aa01c649eed10c493f6885",
    (32, "test"): "d96bb6e76aff52736bea34c0e64ab1d5b1606266aa979bd4f68a70643377d7ab",
    (16, "train"): "1a04c2eb3a9b9406ace0eb20580c11676695f1f31e3181605b1a541702abec6e",
    (16, "test"): "9165b6fe93d5a6d6d44b866f373e2f5ecb4733d193b908720b6be6a71eb6e513",
}
"""Of the arrays made from the official files, by side and part."""


@dataset(
    "fashion_mnist_rgb32",
    label="Fashion-MNIST (32 px, RGB)",
    shape=(3, 32, 32),
    classes=10,
    folds=6,
    mean=(0.2199,) * 3,
    std=(0.3324,) * 3,
)
def fashion_mnist_rgb32(
    part: Part,
    directory: Path | None,
    source: OfficialFiles = FASHION_MNIST_SOURCE,
    per_class: int = PER_CLASS,
) -> Arrays:
    """The images with a border of two black pixels, three times.

    Args:
        part: ``train`` or ``test``.
        directory: the data directory, which holds ``FashionMNIST/raw``; None means ``data``.
        source: names, checksums and download of the files.
        per_class: training images of each class, of which there must be as many.

    Raises:
        SafsError: files are missing and cannot be downloaded, or are not the official ones.
    """
    images, labels = _chosen(part, directory, source, per_class)
    return _checked(Arrays(np.repeat(images, 3, axis=1), labels), part, source)


@dataset(
    "fashion_mnist_rgb16",
    label="Fashion-MNIST (16 px, RGB)",
    shape=(3, 16, 16),
    classes=10,
    folds=6,
    mean=(0.2202,) * 3,
    std=(0.3141,) * 3,
)
def fashion_mnist_rgb16(
    part: Part,
    directory: Path | None,
    source: OfficialFiles = FASHION_MNIST_SOURCE,
    per_class: int = PER_CLASS,
) -> Arrays:
    """As :func:`fashion_mnist_rgb32`, each 2 x 2 pixels averaged and halves rounded up."""
    images, labels = _chosen(part, directory, source, per_class)
    return _checked(Arrays(np.repeat(_halved(images), 3, axis=1), labels), part, source)


def _chosen(part: Part, directory: Path | None, source: OfficialFiles, per_class: int) -> Arrays:
    """Images ``[N, 1, 32, 32]`` of a part; of the training part ``per_class`` of each class."""
    images, labels = images_of(part, directory, source)
    if part == "train":
        kept = stratified_holdout(labels, per_class, _CHOICE_SEED)
        images, labels = images[kept], labels[kept]
    border = ((0, 0), (0, 0), (_PAD, _PAD), (_PAD, _PAD))
    return Arrays(np.pad(images, border), labels)


def _checked(arrays: Arrays, part: Part, source: OfficialFiles) -> Arrays:
    """Refuse what was made otherwise, by a numpy that draws other images for one."""
    side, found = arrays.images.shape[-1], arrays.checksum()
    if source is FASHION_MNIST_SOURCE and found != CHECKSUMS[side, part]:
        raise SafsError(
            f"fashion_mnist_rgb{side}, {part}: the images made from {source.folder} have the "
            f"checksum {found}, expected {CHECKSUMS[side, part]}; numpy {np.__version__}"
        )
    return arrays


def _halved(images: np.ndarray) -> np.ndarray:
    """Box filter: integers, so that every machine rounds alike."""
    n, channels, height, width = images.shape
    boxes = images.reshape(n, channels, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((boxes.sum(axis=(3, 5)) + 2) // 4).astype(np.uint8)
