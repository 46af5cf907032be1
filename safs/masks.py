"""Masks: which weights of a network survive. What makes one is :mod:`safs.pruning`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from safs.errors import SafsError
from safs.networks.base import prunable

Mask = dict[str, Tensor]
"""Layer name to a bool tensor of the weight's shape; True where the weight survives."""


def sparsity(mask: Mapping[str, Tensor]) -> float:
    """Fraction of all maskable weights that ``mask`` prunes."""
    total = sum(keep.numel() for keep in mask.values())
    return 1 - sum(int(keep.sum()) for keep in mask.values()) / total


def check(mask: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise :class:`SafsError` unless ``mask`` fits the network's prunable layers one by one."""
    weights = prunable(network)
    if set(mask) != set(weights):
        raise SafsError(f"mask for layers {sorted(mask)}, expected {sorted(weights)}")
    for name, weight in weights.items():
        if mask[name].shape != weight.shape or mask[name].dtype != torch.bool:
            found = f"{mask[name].dtype} {tuple(mask[name].shape)}"
            raise SafsError(f"mask of {name}: {found}, expected torch.bool {tuple(weight.shape)}")


def check_applied(mask: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise :class:`SafsError` unless every weight that ``mask`` prunes is exactly 0."""
    check(mask, network)
    for name, weight in prunable(network).items():
        if bool(weight.detach()[~mask[name].to(weight.device)].any()):
            raise SafsError(f"a pruned weight of layer {name!r} is not 0")


@torch.no_grad()
def apply(mask: Mapping[str, Tensor], network: nn.Module) -> None:
    """Set the pruned weights of ``network`` to exactly 0."""
    check(mask, network)
    for name, weight in prunable(network).items():
        weight.masked_fill_(~mask[name].to(weight.device), 0.0)


def counts(mask: Mapping[str, Tensor]) -> dict[str, dict[str, int]]:
    """``total`` and ``kept`` weights of each layer, as records and reports tell them."""
    return {name: {"total": k.numel(), "kept": int(k.sum())} for name, k in mask.items()}
