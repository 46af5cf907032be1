"""Make downsampled-ImageNet batch files from folders of images.

``python -m safs.datasets.downsample SRC DST --size 16`` reads ``SRC/train/<class>/<image>`` and
``SRC/val/<class>/<image>`` and writes ``train_data_batch_1`` to ``10`` and ``val_data`` into DST.
As Chrabaszcz, Loshchilov, Hutter, "A Downsampled Variant of ImageNet as an Alternative to the CIFAR
datasets", describe for their box variant: every image is turned into RGB and resized as a whole,
whatever its sides, by a box filter; training images are shuffled over the batches.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from safs.datasets import batches
from safs.datasets.base import Part
from safs.errors import SafsError
from safs.files import naming

_FOLDERS: dict[Part, str] = {"train": "train", "test": "val"}
_SHUFFLE_SEED = 0

Apply = Callable[[Callable[[Path], np.ndarray], Iterable[Path]], Iterator[np.ndarray]]


def shrink(path: Path, size: int) -> np.ndarray:
    """One image as uint8 ``[3 * size * size]``, the planes red, green, blue one after the other.

    Raises:
        SafsError: the file is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError) as error:
        raise SafsError(f"{path}: not an image ({error})") from None
    return np.asarray(small, np.uint8).transpose(2, 0, 1).ravel()


def downsample(
    source: Path,
    target: Path,
    size: int = 16,
    *,
    order: Sequence[str] | None = None,
    workers: int = 1,
) -> dict[str, int]:
    """Write the batch files of every part that ``source`` has.

    Args:
        source: a folder with ``train`` and ``val``, or one of them, each with a folder per class.
        target: where the batches go.
        size: side of the small images in pixels.
        order: names of the class folders, the first of which becomes label 1; None sorts them. The
            official labels follow ImageNet's development kit instead.
        workers: processes that read images.

    Returns:
        Number of images by name of batch.

    Raises:
        SafsError: there are no class folders, a class has no place in ``order``, or a file is not
            an image.
    """
    parts = [part for part, folder in _FOLDERS.items() if (source / folder).is_dir()]
    if not parts:
        raise SafsError(f"{source}: expected a folder train or val with a folder for each class")
    target.mkdir(parents=True, exist_ok=True)
    written: dict[str, int] = {}
    with _mapper(workers) as apply:
        for part in parts:
            written |= _write_part(source / _FOLDERS[part], target, part, size, order, apply)
    return written


def _write_part(
    source: Path, target: Path, part: Part, size: int, order: Sequence[str] | None, apply: Apply
) -> dict[str, int]:
    paths, labels = _listing(source, order)
    names = batches.NAMES[part]
    if part == "train":
        shuffled = np.random.default_rng(_SHUFFLE_SEED).permutation(len(paths))
        paths, labels = [paths[i] for i in shuffled], labels[shuffled]
    # On disk, since the mean over all images has to be known before the first batch is written.
    with tempfile.TemporaryDirectory(prefix=".pixels-", dir=target) as temporary:
        place = Path(temporary) / part
        total = np.zeros(3 * size * size)
        with naming(place), place.open("wb") as file:
            for image in apply(partial(shrink, size=size), paths):
                file.write(np.ascontiguousarray(image, np.uint8).data)
                total += image
        pixels = np.memmap(place, np.uint8, "r", shape=(len(paths), len(total)))
        parts = np.array_split(np.arange(len(paths)), len(names))
        for name, rows in zip(names, parts, strict=True):
            batches.write(target / name, pixels[rows], labels[rows], total / len(paths))
        del pixels
    return {name: len(rows) for name, rows in zip(names, parts, strict=True)}


def _listing(source: Path, order: Sequence[str] | None) -> tuple[list[Path], np.ndarray]:
    """Image files by class, and their labels, which count from 1."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    if not folders:
        raise SafsError(f"{source}: expected a folder for each class, found none")
    number = {name: i for i, name in enumerate(order or [f.name for f in folders], start=1)}
    unknown = [folder.name for folder in folders if folder.name not in number]
    if unknown:
        raise SafsError(f"{source}: class {unknown[0]!r} has no place in the given order")
    images = [
        (path, number[folder.name])
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    if not images:
        raise SafsError(f"{source}: no images")
    return [path for path, _ in images], np.array([label for _, label in images])


@contextmanager
def _mapper(workers: int) -> Iterator[Apply]:
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield lambda function, paths: pool.map(function, paths, chunksize=64)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m safs.datasets.downsample",
        description="Make downsampled-ImageNet batch files from folders of images, by box filter.",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="has train/ and val/ by class")
    parser.add_argument("target", type=Path, metavar="DST", help="gets the batch files")
    parser.add_argument("--size", type=int, default=16, help="side in pixels (default: 16)")
    parser.add_argument(
        "--order", type=Path, help="file whose lines start with the classes in their labels' order"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    try:
        lines = options.order.read_text().splitlines() if options.order else None
        order = [line.split()[0] for line in lines if line.strip()] if lines else None
        written = downsample(
            options.source, options.target, options.size, order=order, workers=options.workers
        )
    except (SafsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, count in written.items():
        print(f"{options.target / name}: {count} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
