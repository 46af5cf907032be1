"""The images of a replicate as a file, which all workers of a host map into memory.

The first worker that needs a fold writes it; the others, and later stages, share its pages instead
of decoding and copying the data set again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.storage import artefacts, sources
from safs.errors import SafsError
from safs.files import replacing
from safs.sealed import digest

if TYPE_CHECKING:
    import torch

    from safs.training.data import Fold, Images

PARTS = ("train", "validation")
FIELDS = ("pixels", "labels", "mean", "std")


def load(
    dataset: str,
    replicate: int,
    seed: int,
    checksum: str,
    device: torch.device,
    data: Path | None,
    folder: Path | None,
) -> Fold:
    """The fold of :func:`safs.training.data.load_fold`, on ``device``.

    Args:
        dataset, replicate, seed: which fold.
        checksum: of the training images; other images make another file.
        device: where the images go; on the CPU they stay in the file.
        data: folder of downloaded data sets.
        folder: where the files are; None shares nothing.

    Raises:
        SafsError: the images found here are not those of ``checksum``.
    """
    from safs.datasets import DATASETS, fold_of
    from safs.training.data import Fold, load_fold

    if folder is None:
        return load_fold(dataset, replicate, seed, device, data)
    entry = DATASETS[dataset]
    code = sources.of("safs/training/data.py")
    made_from = digest([dataset, fold_of(replicate, entry.folds), seed, checksum, code])
    path = folder / f"{made_from[:32]}.json"
    images = artefacts.weights_of(path)
    if artefacts.finished(path, made_from) is None:
        _check(dataset, data, checksum)
        with replacing(images) as temporary:
            _write(temporary, dataset, replicate, seed, data)
        artefacts.write(path, {"dataset": dataset}, made_from)
    train, validation = (_on(device, part) for part in _read(images))
    return Fold(train, validation, entry.augmentation, entry.classes)


def identity(
    dataset: str, replicate: int, seed: int, checksum: str, data: Path | None = None
) -> str:
    """Digest of what a replicate trains and validates on: its images, and which are held out.

    Arguments are those of :func:`load`; images and labels count by their ``checksum``.
    """
    from safs.datasets import DATASETS, fold_of, load_part, partition

    folds = DATASETS[dataset].folds
    labels = load_part(dataset, "train", data).labels
    held = partition(labels, folds, seed) == fold_of(replicate, folds)
    return digest([checksum, np.packbits(held).tobytes().hex()])[:32]


def _check(dataset: str, data: Path | None, checksum: str) -> None:
    """Refuse images that are not the stage's: another copy on this host, or one that changed."""
    from safs.datasets import load_part

    found = load_part(dataset, "train", data).checksum()
    if found != checksum:
        raise SafsError(
            f"{dataset}: the training images here have the checksum {found[:12]}, those of the "
            f"stage {checksum[:12]}: the data folder ({data}) has changed, or is another's"
        )


def _write(path: Path, dataset: str, replicate: int, seed: int, data: Path | None) -> None:
    import torch
    from safetensors.torch import save

    from safs.training.data import load_fold

    fold = load_fold(dataset, replicate, seed, torch.device("cpu"), data)
    images = {part: getattr(fold, part) for part in PARTS}
    path.write_bytes(save({f"{p}.{f}": getattr(images[p], f) for p in PARTS for f in FIELDS}))


def _read(path: Path) -> tuple[Images, ...]:
    from safetensors.torch import load_file

    from safs.training.data import Images

    tensors = load_file(path)  # mapped, copied on write
    return tuple(Images(*(tensors[f"{part}.{field}"] for field in FIELDS)) for part in PARTS)


def _on(device: torch.device, images: Images) -> Images:
    return replace(images, **{name: getattr(images, name).to(device) for name in FIELDS})
