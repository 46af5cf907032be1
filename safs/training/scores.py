"""What a network makes of images: accuracies and loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from safs import exact
from safs.training.data import Images

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
def by_torch(network: nn.Module, images: Images) -> Score:
    """Evaluate ``network`` in evaluation mode; its training mode is left as it was."""
    training = network.training
    network.eval()
    batches = (slice(start, start + _BATCH) for start in range(0, len(images), _BATCH))
    logits = torch.cat([network(images.normalised(batch)) for batch in batches])
    network.train(training)
    return of_logits(logits, images.labels)


def of_logits(logits: Tensor, labels: Tensor) -> Score:
    """The score of logits ``[N, classes]`` against labels ``[N]``.

    A class that ties with others counts as behind them, so a constant output scores no luck.
    """
    z, right = logits.detach().double().cpu().numpy(), labels.cpu().numpy()
    own = z[np.arange(len(z)), right]
    rank = (z >= own[:, None]).sum(1) - 1
    loss = _cross_entropy(z, own)
    finite = math.isfinite(loss)
    correct = (rank == 0) & finite
    top5 = float((rank < 5).mean()) if finite else 0.0
    return Score(float(correct.mean()), top5, loss, correct)


def _cross_entropy(z: np.ndarray, own: np.ndarray) -> float:
    """The mean over images, with the same bits everywhere: sums in one order, or exact."""
    if not np.isfinite(z).all():
        return math.nan
    highest = z.max(1)
    total = np.zeros(len(z))
    for logits in z.T:
        total += exact.exp(logits - highest)
    return math.fsum(exact.log(total) - (own - highest)) / len(z)
