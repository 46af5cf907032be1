"""What several tests count."""

import torch

from safs.networks import prunable


def survivors(network):
    """Non-zero weights of each prunable layer."""
    return {name: int(torch.count_nonzero(w)) for name, w in prunable(network).items()}
