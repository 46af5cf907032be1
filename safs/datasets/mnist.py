"""MNIST and Fashion-MNIST from their official IDX files, as torchvision downloads them.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition"; Xiao,
Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms".
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from safs.datasets.base import Arrays, Part, dataset
from safs.datasets.source import OfficialFiles
from safs.errors import SafsError

_PREFIX = {"train": "train", "test": "t10k"}
_UINT8 = 8  # the type code of unsigned bytes in an IDX header
_NEEDS = (
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz"
)


def _download_mnist(directory: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(directory, download=True)


def _download_fashion_mnist(directory: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(directory, download=True)


# Each file's sums: of the official .gz file, then of its content.
MNIST_SOURCE = OfficialFiles(
    folder="MNIST/raw",
    files={
        "train-images-idx3-ubyte": (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "6bbc9ace898e44ae57da46a324031adb",
        ),
        "train-labels-idx1-ubyte": (
            "d53e105ee54ea40749a09fcbcd1e9432",
            "a25bea736e30d166cdddb491f175f624",
        ),
        "t10k-images-idx3-ubyte": (
            "9fb629c4189551a2d022fa330f9573f3",
            "2646ac647ad5339dbf082846283269ea",
        ),
        "t10k-labels-idx1-ubyte": (
            "ec29112dd5afa0611ce80d1b7f02629c",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    },
    needs=f"MNIST's {_NEEDS}",
    download=_download_mnist,
)
FASHION_MNIST_SOURCE = OfficialFiles(
    folder="FashionMNIST/raw",
    files={
        "train-images-idx3-ubyte": (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        ),
        "train-labels-idx1-ubyte": (
            "25c81989df183df01b3e8a0aad5dffbe",
            "9018921c3c673c538a1fc5bad174d6f9",
        ),
        "t10k-images-idx3-ubyte": (
            "bef4ecab320f06d8554ea6380940ec79",
            "8181f5470baa50b63fa0f6fddb340f0a",
        ),
        "t10k-labels-idx1-ubyte": (
            "bb300cfdad3c16e7a12a480ee83cd310",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    },
    needs=f"Fashion-MNIST's {_NEEDS}",
    download=_download_fashion_mnist,
)


@dataset("mnist", label="MNIST", shape=(1, 28, 28), classes=10, folds=6)
def mnist(part: Part, directory: Path | None, source: OfficialFiles = MNIST_SOURCE) -> Arrays:
    """60,000 images for training and validation (50,000 and 10,000), the official 10,000 to test.

    Args:
        part: ``train`` or ``test``.
        directory: the data directory, which holds ``MNIST/raw``; None means ``data``.
        source: names, checksums and download of the files.

    Raises:
        SafsError: files are missing and cannot be downloaded, or are not the official ones.
    """
    return images_of(part, directory, source)


@dataset("fashion_mnist", label="Fashion-MNIST", shape=(1, 28, 28), classes=10, folds=6)
def fashion_mnist(
    part: Part, directory: Path | None, source: OfficialFiles = FASHION_MNIST_SOURCE
) -> Arrays:
    """As :func:`mnist`, from ``FashionMNIST/raw``; not in the paper."""
    return images_of(part, directory, source)


def images_of(part: Part, directory: Path | None, source: OfficialFiles) -> Arrays:
    """A part from the files of a source of this format. Raises SafsError as :func:`mnist` does."""
    prefix = _PREFIX[part]
    images = _idx(source, f"{prefix}-images-idx3-ubyte", 3, directory)
    labels = _idx(source, f"{prefix}-labels-idx1-ubyte", 1, directory)
    if len(images) != len(labels):
        raise SafsError(f"{source.folder}: {len(images)} images, {len(labels)} labels")
    return Arrays(images[:, None], labels.astype(np.int64))


def _idx(source: OfficialFiles, name: str, dimensions: int, directory: Path | None) -> np.ndarray:
    """An IDX file of unsigned bytes: two zeros, type, number of dimensions, big-endian sizes."""
    content = source.read(name, directory)
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UINT8, dimensions)) or len(content) < header:
        raise SafsError(f"{source.folder}/{name}: not an IDX file of {dimensions}-d unsigned bytes")
    sizes = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
    if len(content) - header != math.prod(sizes):
        found = len(content) - header
        raise SafsError(f"{source.folder}/{name}: {found} bytes, expected {math.prod(sizes)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)
