"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images")."""

from __future__ import annotations

import itertools
import math
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safs.datasets import batches, unpickle
from safs.datasets.base import Arrays, Augmentation, Part, dataset
from safs.datasets.source import DEFAULT_DIRECTORY, MAX_BYTES, OfficialFiles, replacing
from safs.errors import SafsError
from safs.files import naming

_ARCHIVE = "cifar-10-python.tar.gz"
_MEMBERS = 100  # the official archive has 9
_SHAPE = (3, 32, 32)


def _download(directory: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(directory, download=True)


SOURCE = OfficialFiles(
    folder="cifar-10-batches-py",
    files={
        "data_batch_1": ("c99cafc152244af753f735de768cd75f",),
        "data_batch_2": ("d4bba439e000b95fd0a9bffe97cbabec",),
        "data_batch_3": ("54ebc095f3ab1f0389bbae665268c751",),
        "data_batch_4": ("634d18415352ddfa80567beed471001a",),
        "data_batch_5": ("482c414d41f54cd18b22e5b47cb7c3cb",),
        "test_batch": ("40351d587109b95175f43aff81a1287e",),
    },
    needs=f"CIFAR-10's data_batch_1 to data_batch_5 and test_batch, which {_ARCHIVE} contains,",
    download=_download,
)


@dataset(
    "cifar10",
    label="CIFAR-10",
    shape=_SHAPE,
    classes=10,
    folds=3,
    # As in the released code. These usual values of std are means over images of each image's own
    # standard deviation; over all pixels it is (0.2470, 0.2435, 0.2616).
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    augmentation=Augmentation(pad=4, flip=True),
)
def cifar10(part: Part, directory: Path | None, source: OfficialFiles = SOURCE) -> Arrays:
    """50,000 images in three folds, the official 10,000 to test.

    Args:
        part: ``train`` or ``test``.
        directory: the data directory, with the folder ``cifar-10-batches-py`` or the official
            archive; None means ``data``.
        source: names, checksums and download of the files.

    Raises:
        SafsError: files are missing and cannot be downloaded, or are not the official ones.
    """
    _unpack(source, directory or DEFAULT_DIRECTORY)
    names = [name for name in source.files if name.startswith("test") == (part == "test")]
    found = [_batch(source, name, directory) for name in names]
    return Arrays(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _unpack(source: OfficialFiles, directory: Path) -> None:
    """Take the batches out of the official archive if they are not there yet."""
    archive, folder = directory / _ARCHIVE, directory / source.folder
    missing = {
        f"{source.folder}/{n}": folder / n
        for n in source.files
        if source.find(n, directory) is None
    }
    if not missing or not archive.is_file():
        return
    for name, content in _members(archive, {*missing}):
        target = missing.pop(name)
        folder.mkdir(parents=True, exist_ok=True)
        with naming(target), replacing(target) as temporary:
            temporary.write_bytes(content)
    if missing:
        raise SafsError(f"{archive}: not the official archive (without {', '.join(missing)})")


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Each of these files of an archive, once, with its content. Raises SafsError."""
    try:
        with tarfile.open(archive) as tar:
            for member in itertools.islice(tar, _MEMBERS):
                if member.size > MAX_BYTES:
                    raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
                content = tar.extractfile(member) if member.isreg() else None
                if content and member.name in wanted:
                    wanted.remove(member.name)
                    yield member.name, content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SafsError(f"{archive}: not the official archive ({error})") from None


def _batch(
    source: OfficialFiles, name: str, directory: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    where = f"{source.folder}/{name}"
    batch = unpickle.load(source.read(name, directory), where)
    data, labels = batches.arrays(batch, where)
    if data.dtype != np.uint8 or data.shape != (len(labels), math.prod(_SHAPE)):
        found = f"{data.dtype} {data.shape} for {len(labels)} labels"
        raise SafsError(f"{where}: not a batch of CIFAR-10: {found}")
    return data.reshape(-1, *_SHAPE), labels
