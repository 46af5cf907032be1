"""What a mask leaves connected: paths of surviving weights from the input to each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from safs.masks import Mask
from safs.pruning.pruners import positive_copy


@dataclass(frozen=True)
class Connectivity:
    """Which outputs a mask leaves connected to the input, and the accuracy that allows.

    Attributes:
        connected: class indices with at least one path of surviving weights from the input.
        classes: number of classes.
        cap: upper bound on accuracy, a fraction: an unconnected output is constant, so of all
            those at most one can ever win; with c connected classes the c + 1 most frequent
            classes bound the share of images that can be right.
    """

    connected: tuple[int, ...]
    classes: int
    cap: float


@torch.no_grad()
def connectivity(
    network: nn.Module, mask: Mask, shape: tuple[int, ...], labels: np.ndarray
) -> Connectivity:
    """Trace paths of surviving weights through any network.

    A copy of the network gets its mask as weights, no biases, neutral batch norm and a step
    function in every slot; a positive input then reaches exactly the connected outputs.

    Args:
        network: an installed network (with slots).
        mask: the mask to examine.
        shape: of one image, ``(channels, height, width)``.
        labels: training labels ``[N]``, for the class frequencies behind ``cap``.
    """
    weights = {name: keep.double() for name, keep in mask.items()}
    probe = positive_copy(network, weights, torch.sign)
    output = probe(torch.ones(1, *shape, dtype=torch.float64))[0]
    connected = (output > 0).nonzero().flatten().tolist()
    counts = np.sort(np.bincount(labels, minlength=len(output)))[::-1]
    cap = counts[: len(connected) + 1].sum() / counts.sum()
    return Connectivity(tuple(connected), len(output), float(cap))
