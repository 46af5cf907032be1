"""A part of a data set as two ``.npy`` files, made once from its source files.

Beside them lies a JSON file with size, time and SHA-256 of every source file. A source that has
changed is converted again; one that was merely touched is recognised by its checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safs.datasets.base import Arrays
from safs.errors import SafsError, one_line
from safs.files import replacing

_FORMAT = 1  # raise it when a conversion would give other arrays

Read = Callable[[Path], tuple[np.ndarray, np.ndarray]]


def exists(folder: Path, part: str) -> bool:
    """Whether the part has been converted before."""
    return _record(folder, part) is not None


def load(folder: Path, part: str) -> Arrays:
    """The converted part; images are mapped into memory, read-only."""
    images = np.load(_images(folder, part), mmap_mode="r", allow_pickle=False)
    return Arrays(images, np.load(_labels(folder, part), allow_pickle=False))


def refresh(folder: Path, part: str, files: Sequence[Path], read: Read) -> None:
    """Convert the part unless its source files are the ones it was made from.

    Every file is written beside its place and renamed, the JSON file last, so that a killed
    conversion leaves nothing that counts.

    Args:
        folder: where the source files lie; the arrays go into ``store`` inside of it.
        part: name of the part.
        files: the source files, in order.
        read: images uint8 ``[n, ...]`` and labels int64 ``[n]`` of one of them.

    Raises:
        SafsError: a source file cannot be read or changes meanwhile, or the store cannot be
            written, as on a full disk.
    """
    record = _record(folder, part)
    stamps = [_stamp(path) for path in files]
    if record is not None and [_without_sum(entry) for entry in record["sources"]] == stamps:
        return
    sources = [{**s, "sha256": _sha256(path)} for s, path in zip(stamps, files, strict=True)]
    try:
        if record is None or _sums(record["sources"]) != _sums(sources):
            _convert(folder, part, files, read)
        with replacing(_json(folder, part)) as temporary:
            temporary.write_text(json.dumps({"format": _FORMAT, "sources": sources}, indent=2))
    except OSError as error:
        raise SafsError(f"cannot write: {one_line(error)}") from None


def _convert(folder: Path, part: str, files: Sequence[Path], read: Read) -> None:
    """One file in memory at a time; a first pass counts the images.

    Written, not mapped: where the disk is full, a mapped page would kill the process.
    """
    _json(folder, part).unlink(missing_ok=True)
    counted = [read(path)[1] for path in files]
    labels, shape = np.concatenate(counted), read(files[0])[0].shape[1:]
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *shape)}
    with replacing(_images(folder, part)) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for path, expected in zip(files, counted, strict=True):
            batch = read(path)[0]
            if batch.shape != (len(expected), *shape):
                raise SafsError(f"{path}: changed while it was read")
            file.write(np.ascontiguousarray(batch).data)
    with replacing(_labels(folder, part)) as temporary, temporary.open("wb") as file:
        np.save(file, labels)


def _images(folder: Path, part: str) -> Path:
    return folder / "store" / f"{part}_images.npy"


def _labels(folder: Path, part: str) -> Path:
    return folder / "store" / f"{part}_labels.npy"


def _json(folder: Path, part: str) -> Path:
    return folder / "store" / f"{part}.json"


def _record(folder: Path, part: str) -> dict[str, Any] | None:
    """What is written beside complete arrays of this format; None if anything is missing."""
    try:
        record: dict[str, Any] = json.loads(_json(folder, part).read_text())
        known = record["format"] == _FORMAT and isinstance(record["sources"], list)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    complete = _images(folder, part).is_file() and _labels(folder, part).is_file()
    return record if known and complete else None


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"name": path.name, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _without_sum(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "sha256"}


def _sums(sources: Sequence[dict[str, Any]]) -> list[str]:
    return [entry["sha256"] for entry in sources]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
