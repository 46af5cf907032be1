"""How long an epoch takes here, for plans."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipelines.tasks.shared import empty, own_device
from safs.spec import Acceleration, BackendName, NetworkSpec, Recipe

if TYPE_CHECKING:
    import torch

    from safs.training.data import Fold

_FEW_IMAGES, _LONG_ENOUGH = 32, 0.5  # of a timed epoch: images, seconds


def epoch_seconds(
    network: NetworkSpec,
    dataset: str,
    recipe: Recipe,
    ratio: float | None,
    backend: BackendName,
    acceleration: Acceleration,
    images: int,
) -> float:
    """Measured seconds of one training epoch of ``images`` images here, for plans.

    Random images of the right shape do, so the data set need not be here. A few images are timed,
    two batches where those take less than half a second, and twenty where these do, each after a
    first epoch that is not.

    Args:
        network, dataset, recipe: of the pair.
        ratio: pruning ratio, None for dense training.
        backend: who trains.
        acceleration: how PyTorch computes its steps.
        images: size of the fold's training part, to which the measured time is scaled.
    """
    from safs.masks import apply
    from safs.pruning.prune import prune
    from safs.training.data import BatchOrder
    from safs.training.loop import train

    device = own_device()
    model = empty(network, dataset)
    mask = None if ratio is None else prune(model, ratio)
    if mask is not None:
        apply(mask, model)
    model = model.to(device)
    still = recipe.model_copy(update={"lr": 1e-9})  # noise teaches nothing and must not diverge
    ends: list[float] = []
    for enough in (_FEW_IMAGES, 2 * recipe.batch_size, 20 * recipe.batch_size):
        count = min(images, enough)
        fold = random_fold(dataset, count, device)
        train(
            model, fold, still, 2, BatchOrder(0, 0, "final"), mask=mask, backend=backend,
            acceleration=acceleration, on_epoch=lambda _: ends.append(time.perf_counter()),
        )  # fmt: skip
        if ends[-1] - ends[-2] >= _LONG_ENOUGH:
            break
    return (ends[-1] - ends[-2]) * images / count


def random_fold(dataset: str, count: int, device: torch.device) -> Fold:
    """Noise of a data set's shape; validation is one image, so that it costs nothing."""
    import torch

    from safs.datasets import DATASETS
    from safs.training.data import Fold, Images

    entry = DATASETS[dataset]
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *entry.shape), dtype=torch.uint8, generator=noise)
    labels = torch.randint(0, entry.classes, (count,), generator=noise)
    centre = torch.full((entry.shape[0], 1, 1), 0.5)

    def images(chosen: slice) -> Images:
        parts = (pixels[chosen], labels[chosen], centre, centre)
        return Images(*(part.to(device) for part in parts))

    return Fold(images(slice(None)), images(slice(0, 1)), entry.augmentation, entry.classes)
