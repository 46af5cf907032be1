"""The one reading of the test images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.tasks.shared import empty, load, own_device
from safs.spec import NetworkSpec


def evaluate(
    network: NetworkSpec,
    dataset: str,
    weights: Sequence[Path],
    chromosome: tuple[str, ...],
    learned: dict[str, bool],
    mask: Path | None,
    data: Path | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Open the test images once for the final trainings of a run; count what a network is made of.

    Args:
        network, dataset: the network.
        weights: those of each final training.
        chromosome: the operators in its slots.
        learned: which activation parameters were learned (``scaled``, ``train_own``).
        mask: the surviving weights, which may have become 0; None where all are there.
        data: folder of downloaded data sets.

    Returns:
        What each came to (:class:`bench.records.schema.Test`), and ``parameters`` and ``macs`` of
        a record.
    """
    import torch

    from safs import slots
    from safs.datasets import DATASETS
    from safs.networks import prunable
    from safs.pruning import compression
    from safs.training import evaluation

    device = own_device()
    models = [empty(network, dataset) for _ in weights]
    for model, path in zip(models, weights, strict=True):
        slots.fill(model, chromosome, **learned)
        model.load_state_dict(load(path))
        model.to(device)
    results = evaluation.test(models, dataset, device, data)
    model = models[0]
    layers = prunable(model).items()
    kept = load(mask) if mask else {name: torch.ones(weight.shape) > 0 for name, weight in layers}
    size = compression.account(model, kept, DATASETS[dataset].shape)
    tests = [
        {
            "images": len(result.correct),
            "top1": result.top1,
            "top5": result.top5,
            "loss": result.loss if math.isfinite(result.loss) else None,
            "correct": result.correct.tolist(),
        }
        for result in results
    ]
    return tests, {
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
