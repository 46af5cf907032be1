"""Accuracy of a network; the only module that opens test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from safs.training.data import Images, load_test

_BATCH = 1000


@dataclass(frozen=True)
class Score:
    """Accuracies are fractions of the images, loss is the mean cross-entropy in nats.

    Attributes:
        correct: bool ``[N]``, whether each image's top-1 prediction is right.
    """

    top1: float
    top5: float
    loss: float
    correct: np.ndarray


@torch.no_grad()
def score(network: nn.Module, images: Images) -> Score:
    """Evaluate ``network`` in evaluation mode; its training mode is left as it was."""
    training = network.training
    network.eval()
    batches = (slice(start, start + _BATCH) for start in range(0, len(images), _BATCH))
    logits = torch.cat([network(images.normalised(batch)) for batch in batches])
    network.train(training)
    return score_logits(logits, images.labels)


def score_logits(logits: Tensor, labels: Tensor) -> Score:
    """The score of logits ``[N, classes]`` against labels ``[N]``.

    A class that ties with others counts as behind them, so a constant output scores no luck.
    """
    loss = float(functional.cross_entropy(logits, labels))
    rank = ((logits >= logits.gather(1, labels[:, None])).sum(1) - 1).cpu().numpy()
    finite = np.isfinite(loss)
    correct = (rank == 0) & finite
    top5 = float((rank < 5).mean()) if finite else 0.0
    return Score(float(correct.mean()), top5, loss, correct)


def test(
    network: nn.Module, dataset: str, device: torch.device, directory: Path | None = None
) -> Score:
    """Top-1, top-5 and loss on the test images: called once per method and replicate."""
    return score(network, load_test(dataset, device, directory))
