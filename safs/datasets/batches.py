"""The batch files of downsampled ImageNet, as pickles and as ``.npz``.

A batch holds ``data`` (uint8 ``[N, 3 * size * size]``, the planes red, green, blue one after the
other), ``labels`` (1 to 1000) and ``mean`` (of all training images, ``[3 * size * size]``).
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from safs.datasets import unpickle
from safs.datasets.base import Part
from safs.datasets.source import replacing
from safs.errors import SafsError

NAMES: Mapping[Part, tuple[str, ...]] = {
    "train": tuple(f"train_data_batch_{number}" for number in range(1, 11)),
    "test": ("val_data",),
}
"""Names of the official files without the ending that the ``.npz`` ones have."""


def find(folder: Path, name: str) -> Path | None:
    """The batch file of that name, pickle before ``.npz``; None if there is neither."""
    return next((p for p in (folder / name, folder / f"{name}.npz") if p.is_file()), None)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``data`` and ``labels`` (int64 ``[N]``, as written) of one batch.

    Raises:
        SafsError: the file is damaged, or holds anything but arrays and containers.
    """
    batch = _npz(path) if path.suffix == ".npz" else unpickle.load(path.read_bytes(), path)
    try:
        batch = {_text(key): value for key, value in batch.items()}
        return np.asarray(batch["data"]), np.asarray(batch["labels"]).astype(np.int64).ravel()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SafsError(f"{path}: not a batch with data and labels ({error!r})") from None


def write(path: Path, data: np.ndarray, labels: np.ndarray, mean: np.ndarray) -> None:
    """Write a batch in the official pickle format."""
    batch = {"data": data, "labels": labels.tolist(), "mean": mean}
    with replacing(path) as temporary:
        temporary.write_bytes(pickle.dumps(batch, protocol=4))


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SafsError(f"{path}: not an .npz file of arrays ({error})") from None


def _text(key: object) -> object:
    return key.decode("latin1") if isinstance(key, bytes) else key
