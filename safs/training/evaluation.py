"""Accuracy of a network; the only module that opens test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from safs.backends import sparse
from safs.kernels import Unsupported
from safs.training import scores
from safs.training.data import Images, load_test
from safs.training.scores import Score


def score(network: nn.Module, images: Images) -> Score:
    """Evaluate ``network`` in evaluation mode; its training mode is left as it was.

    On a CPU the kernels do it where they know the whole network: the same bits on every machine.
    """
    try:
        return sparse.score(network, images)
    except Unsupported:
        return scores.by_torch(network, images)


def test(
    networks: Sequence[nn.Module],
    dataset: str,
    device: torch.device,
    directory: Path | None = None,
) -> list[Score]:
    """Top-1, top-5 and loss of each network on the test images, which are opened once for all.

    Called once per arm and replicate, with the networks of all its final trainings.
    """
    images = load_test(dataset, device, directory)
    return [score(network, images) for network in networks]
