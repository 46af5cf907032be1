"""Masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import compute
from pipelines.tasks.shared import empty, load_dense, own_device, save
from safs.spec import NetworkSpec

if TYPE_CHECKING:
    import torch

    from pipelines.config.pair import Prune


def prune(
    network: NetworkSpec,
    dataset: str,
    dense: Path,
    ratio: float,
    settings: Prune,
    key: tuple[int, int],
    target: Path,
    given: Path | None = None,
) -> dict[str, Any]:
    """Write the mask of a dense network; return its counts and connectivity.

    Args:
        network, dataset, dense: the trained network.
        ratio: pruning ratio.
        settings: method, scope and what they need.
        key: root seed and replicate, for methods that look at training images or draw numbers.
        target: where the mask goes.
        given: the mask file of the method ``given``.
    """
    from safs import masks, seeds
    from safs.datasets import DATASETS, load_part
    from safs.pruning.connectivity import connectivity
    from safs.pruning.prune import prune as make_mask

    model = load_dense(network, dataset, dense)
    seed, replicate = key
    mask = make_mask(
        model,
        ratio,
        settings.method,
        scope=settings.scope,
        spare=settings.spare,
        shape=DATASETS[dataset].shape,
        rng=seeds.generator(seed, "prune", replicate),
        given=given,
        **_scoring_batch(dataset, settings, seed, replicate),
    )
    save(mask, target)
    labels = load_part(dataset, "train", compute.data_directory()).labels
    links = connectivity(model, mask, DATASETS[dataset].shape, labels)
    return {
        "layers": masks.counts(mask),
        "connectivity": {
            "connected": list(links.connected),
            "classes": links.classes,
            "cap": links.cap,
        },
    }


def connected(
    network: NetworkSpec, dataset: str, ratios: Sequence[float], settings: Prune, seed: int
) -> dict[float, tuple[int, int]] | None:
    """``(connected classes, classes)`` at each ratio, before anything is trained.

    Of the first replicate's network as it is initialised. A mask keeps as many weights of every
    layer after training, only others, so this is what to expect of it. None where masks come from
    images or a file.
    """
    import numpy as np

    from safs import seeds
    from safs.datasets import DATASETS
    from safs.pruning.connectivity import connectivity
    from safs.pruning.prune import prune as make_mask
    from safs.pruning.pruners import PRUNERS, needs

    if not {"shape", "rng"}.issuperset(needs(PRUNERS[settings.method])):
        return None
    model, entry = empty(network, dataset, seed=seed), DATASETS[dataset]
    found = {}
    for ratio in ratios:
        rng = seeds.generator(seed, "prune", 0)
        mask = make_mask(
            model, ratio, settings.method, scope=settings.scope, spare=settings.spare,
            shape=entry.shape, rng=rng,
        )  # fmt: skip
        links = connectivity(model, mask, entry.shape, np.arange(entry.classes))
        found[ratio] = len(links.connected), links.classes
    return found


def _scoring_batch(
    dataset: str, settings: Prune, seed: int, replicate: int
) -> dict[str, torch.Tensor]:
    """Training images of the replicate and their labels, for a method that looks at any."""
    from safs.pruning.prune import scoring_batch
    from safs.pruning.pruners import PRUNERS, needs
    from safs.training.data import load_fold

    if "images" not in needs(PRUNERS[settings.method]):
        return {}
    train = load_fold(dataset, replicate, seed, own_device(), compute.data_directory()).train
    return scoring_batch(train, settings.images, seed, replicate)
