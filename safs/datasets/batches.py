"""The batch files of downsampled ImageNet, as pickles and as ``.npz``.

A batch holds ``data`` (uint8 ``[N, 3 * size * size]``, the planes red, green, blue one after the
other), ``labels`` (1 to 1000) and ``mean`` (of all training images, ``[3 * size * size]``).
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from safs.datasets import unpickle
from safs.datasets.base import Part
from safs.errors import SafsError
from safs.files import read_bytes, replacing

NAMES: Mapping[Part, tuple[str, ...]] = {
    "train": tuple(f"train_data_batch_{number}" for number in range(1, 11)),
    "test": ("val_data",),
}
"""Names of the official files without the ending that the ``.npz`` ones have."""


MAX_BYTES = 2**29
"""Of a file, and of an array in it; a batch of all ten has 98 million bytes at 16x16 pixels."""


def find(folder: Path, name: str) -> Path | None:
    """The batch file of that name, pickle before ``.npz``; None if there is neither."""
    return next((p for p in (folder / name, folder / f"{name}.npz") if p.is_file()), None)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``data`` and ``labels`` (int64 ``[N]``, as written) of one batch.

    Raises:
        SafsError: the file is damaged or too large, or holds anything but arrays and containers.
    """
    if path.suffix == ".npz":
        return arrays(_npz(path), path)
    return arrays(unpickle.load(read_bytes(path, MAX_BYTES), path), path)


def arrays(batch: object, source: object) -> tuple[np.ndarray, np.ndarray]:
    """``data``, an array, and ``labels``, whole numbers, of a batch that was read from anywhere.

    Raises:
        SafsError: one of them is missing, or not what it should be.
    """
    found = (
        {_text(key): value for key, value in batch.items()} if isinstance(batch, Mapping) else {}
    )
    data, labels = found.get("data"), found.get("labels")
    if isinstance(labels, list) and all(type(n) is int and abs(n) < 2**31 for n in labels):
        labels = np.array(labels, np.int64)
    if not isinstance(data, np.ndarray) or not isinstance(labels, np.ndarray):
        raise SafsError(f"{source}: not a batch with data and labels: arrays, or a list of labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        kind = f"{labels.dtype} {labels.shape}"
        raise SafsError(f"{source}: labels are {kind}, expected whole numbers [N]")
    return data, labels.astype(np.int64)


def write(path: Path, data: np.ndarray, labels: np.ndarray, mean: np.ndarray) -> None:
    """Write a batch in the official pickle format."""
    batch = {"data": data, "labels": labels.tolist(), "mean": mean}
    with replacing(path) as temporary:
        temporary.write_bytes(pickle.dumps(batch, protocol=4))


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    """Data and labels; whatever a header says, no more memory is taken than the file declares.

    For a file that is encrypted or packed in a way that it does not know, zipfile has a
    RuntimeError.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
            wanted = [name for name in ("data", "labels") if f"{name}.npy" in names]
            return {name: _npy(file, file.getinfo(f"{name}.npy")) for name in wanted}
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SafsError(f"{path}: not an .npz file of arrays ({error})") from None


def _npy(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.file_size > MAX_BYTES:
        raise ValueError(f"{member.filename}: {member.file_size} bytes, at most {MAX_BYTES}")
    stream = io.BytesIO(file.read(member))
    header = np.lib.format.read_array_header_1_0
    if np.lib.format.read_magic(stream) != (1, 0):
        header = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    content = np.frombuffer(stream.getbuffer(), dtype, offset=stream.tell())
    if math.prod(shape) != content.size:
        raise ValueError(f"{member.filename}: {content.size} numbers, declared {shape}")
    return content.reshape(shape, order="F" if fortran else "C")


def _text(key: object) -> object:
    return key.decode("latin1") if isinstance(key, bytes) else key
