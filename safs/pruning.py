"""Exact-k pruning masks as data, and what a mask leaves connected (Section 3.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from safs import slots
from safs.errors import SafsError
from safs.networks import prunable
from safs.registry import Registry

Mask = dict[str, Tensor]
"""Layer name to a bool tensor of the weight's shape; True where the weight survives."""

Scores = dict[str, Tensor]

PRUNERS: Registry[Callable[[nn.Module], Scores]] = Registry("pruning method")


@PRUNERS.register("magnitude")
def magnitude(network: nn.Module) -> Scores:
    """The absolute value of each weight (Han et al. 2015); larger scores survive."""
    return {name: weight.detach().abs() for name, weight in prunable(network).items()}


def kept(total: int, ratio: float) -> int:
    """Surviving weights of a layer: ``total - round(ratio * total)``, half to even, at least 1."""
    if not 0 <= ratio < 1:
        raise SafsError(f"pruning ratio {ratio!r}: expected a number in [0, 1)")
    return max(1, total - round(ratio * total))


def prune(network: nn.Module, ratio: float, method: str = "magnitude") -> Mask:
    """Layer-wise mask: the same ratio in every convolution and linear layer, exact k in each.

    Among equal scores the earlier weight survives.
    """
    scores = PRUNERS[method](network)
    return {name: _top(score, kept(score.numel(), ratio)) for name, score in scores.items()}


def _top(score: Tensor, k: int) -> Tensor:
    order = torch.sort(score.flatten().cpu(), descending=True, stable=True).indices
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(score.shape)


def check(mask: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise :class:`SafsError` unless ``mask`` fits the network's prunable layers one by one."""
    weights = prunable(network)
    if set(mask) != set(weights):
        raise SafsError(f"mask for layers {sorted(mask)}, expected {sorted(weights)}")
    for name, weight in weights.items():
        if mask[name].shape != weight.shape or mask[name].dtype != torch.bool:
            found = f"{mask[name].dtype} {tuple(mask[name].shape)}"
            raise SafsError(f"mask of {name}: {found}, expected torch.bool {tuple(weight.shape)}")


@torch.no_grad()
def apply(mask: Mask, network: nn.Module) -> None:
    """Set the pruned weights of ``network`` to exactly 0."""
    check(mask, network)
    for name, weight in prunable(network).items():
        weight.masked_fill_(~mask[name].to(weight.device), 0.0)


def survivors(network: nn.Module) -> dict[str, int]:
    """Non-zero weights of each prunable layer."""
    return {name: int(torch.count_nonzero(w)) for name, w in prunable(network).items()}


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
    network: nn.Module, mask: Mask, shape: tuple[int, int, int], labels: np.ndarray
) -> Connectivity:
    """Trace paths of surviving weights through any network.

    A copy of the network gets its mask as weights, no biases, neutral batch norm and a step
    function in every slot; a positive input then reaches exactly the connected outputs.

    Args:
        network: an installed network (with slots).
        mask: the mask to examine.
        shape: ``(channels, height, width)`` of an image.
        labels: training labels ``[N]``, for the class frequencies behind ``cap``.
    """
    probe = copy.deepcopy(network).cpu().double().eval()
    for name, module in probe.named_modules():
        if name in mask:
            module.weight.copy_(mask[name].double())
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
    for slot in slots.slots(probe).values():
        slot.forward = torch.sign  # type: ignore[method-assign,assignment]
    output = probe(torch.ones(1, *shape, dtype=torch.float64))[0]
    connected = (output > 0).nonzero().flatten().tolist()
    counts = np.sort(np.bincount(labels, minlength=len(output)))[::-1]
    cap = counts[: len(connected) + 1].sum() / counts.sum()
    return Connectivity(tuple(connected), len(output), float(cap))
