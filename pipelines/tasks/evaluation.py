"""The one reading of the test images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipelines.tasks.shared import empty, load, own_device
from safs.spec import NetworkSpec


def evaluate(
    network: NetworkSpec,
    dataset: str,
    weights: Path,
    chromosome: tuple[str, ...],
    learned: dict[str, bool],
    data: Path | None,
) -> dict[str, Any]:
    """Open the test images once for one trained network; count what it is made of.

    Args:
        network, dataset, weights: the trained network.
        chromosome: the operators in its slots.
        learned: which activation parameters were learned (``scaled``, ``train_own``).
        data: folder of downloaded data sets.
    """
    from safs import slots
    from safs.datasets import DATASETS
    from safs.networks import prunable
    from safs.pruning import compression
    from safs.training import evaluation

    device = own_device()
    model = empty(network, dataset)
    slots.fill(model, chromosome, **learned)
    model.load_state_dict(load(weights))
    result = evaluation.test(model.to(device), dataset, device, data)
    kept = {name: weight.detach().cpu() != 0 for name, weight in prunable(model).items()}
    size = compression.account(model, kept, DATASETS[dataset].shape)
    return {
        "test": {
            "images": len(result.correct),
            "top1": result.top1,
            "top5": result.top5,
            "loss": result.loss if math.isfinite(result.loss) else None,
            "correct": result.correct.tolist(),
        },
        "parameters": {
            "total": size.parameters + size.activation,
            "nonzero": size.nonzero + size.activation,
            "prunable": sum(layer.weights for layer in size.layers),
            "activation": size.activation,
            "layers": {
                layer.name: {"total": layer.weights, "kept": layer.kept} for layer in size.layers
            },
        },
        "macs": {"dense": size.macs, "sparse": size.sparse_macs},
    }
