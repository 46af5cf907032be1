"""Exact-k pruning masks as data, and what a mask leaves connected (Section 3.1).

A mask is a method (what a weight is worth: :mod:`safs.pruners`) under a scope (which weights
compete with each other: :data:`SCOPES`).
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from safs import given as given_masks
from safs import pruners, seeds
from safs.data import Images
from safs.errors import SafsError, did_you_mean
from safs.networks import prunable
from safs.pruners import PRUNERS, Scores
from safs.registry import Registry

__all__ = [
    "PRUNERS", "SCOPES", "Connectivity", "Mask", "Scores", "apply", "check", "connectivity", "kept",
    "prune", "scoring_batch", "spared", "sparsity", "survivors",
]  # fmt: skip

Mask = dict[str, Tensor]
"""Layer name to a bool tensor of the weight's shape; True where the weight survives."""

# How far a given mask may be from the ratio that is stated for it.
_GIVEN_TOLERANCE = 0.005

SCOPES: Registry[Callable[[nn.Module, Scores, float], Mask]] = Registry("pruning scope")


def kept(total: int, ratio: float) -> int:
    """Surviving weights of a layer: ``total - round(ratio * total)``, half to even, at least 1."""
    if not 0 <= ratio < 1:
        raise SafsError(f"pruning ratio {ratio!r}: expected a number in [0, 1)")
    return max(1, total - round(ratio * total))


def prune(
    network: nn.Module,
    ratio: float | None,
    method: str = "magnitude",
    *,
    scope: str = "layerwise",
    spare: Sequence[str] = (),
    images: Tensor | None = None,
    labels: Tensor | None = None,
    shape: tuple[int, ...] | None = None,
    rng: np.random.Generator | None = None,
    given: given_masks.Source | None = None,
) -> Mask:
    """The mask of a network: exact k, and among equal scores the earlier weight survives.

    The network is left as it is.

    Args:
        network: an installed network (with slots).
        ratio: fraction of the weights that goes; see the scopes for which weights it refers to.
            With the method ``given`` it may be None; otherwise the mask has to have that ratio.
        method: a name in :data:`PRUNERS`.
        scope: a name in :data:`SCOPES`; ``given`` ignores it.
        spare: layers that stay dense, as names or patterns (``*.fc2``); the ratio is that of the
            others. ``given`` ignores it.
        images, labels, shape, rng, given: what some methods need, see :mod:`safs.pruners`. Images
            are training images. ``given`` is anything that :func:`safs.given.read` takes.

    Raises:
        SafsError: the ratio is not in [0, 1), the method lacks what it needs, or a score is not
            finite.
    """
    score = PRUNERS[method]
    mask = None if given is None else given_masks.read(given, network)
    offered = {"images": images, "labels": labels, "shape": shape, "rng": rng, "given": mask}
    wanted = {name: offered.get(name) for name in pruners.needs(score)}
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise SafsError(f"pruning method {method!r} needs {', '.join(missing)}")
    if method == "given":
        assert mask is not None
        return _stated(mask, ratio)
    if ratio is None:
        raise SafsError(f"pruning method {method!r} needs a ratio; only 'given' does without")
    return _rounds(network, ratio, method, scope, wanted, spared(network, spare))


def spared(network: nn.Module, patterns: Sequence[str]) -> set[str]:
    """The prunable layers whose names match one of the patterns.

    Raises:
        SafsError: a pattern matches no layer.
    """
    layers = list(prunable(network))
    for pattern in patterns:
        if not fnmatch.filter(layers, pattern):
            hint = did_you_mean(pattern, layers)
            raise SafsError(f"spare: no prunable layer matches {pattern!r}{hint}")
    return {name for pattern in patterns for name in fnmatch.filter(layers, pattern)}


def scoring_batch(images: Images, count: int, root: int, replicate: int) -> dict[str, Tensor]:
    """Images and labels, drawn at random from training images, as arguments of :func:`prune`.

    Args:
        images: the replicate's training images.
        count: size of the batch; all images where there are fewer.
        root, replicate: key of the seed stream.
    """
    order = seeds.generator(root, "prune", replicate, 0).permutation(len(images))
    chosen = torch.from_numpy(order[:count]).to(images.labels.device)
    return {"images": images.normalised(chosen), "labels": images.labels[chosen]}


def _rounds(
    network: nn.Module,
    ratio: float,
    method: str,
    scope: str,
    wanted: dict[str, Any],
    dense: set[str],
) -> Mask:
    """Score and prune, once or in the method's rounds; what is pruned stays pruned."""
    score, allocate = PRUNERS[method], SCOPES[scope]
    mask: Mask = {}
    total = pruners.rounds(score)
    probe = network if total == 1 else copy.deepcopy(network)
    scored = score(probe, **wanted)
    for number in range(1, total + 1):
        now = ratio if number == total else 1 - (1 - ratio) ** (number / total)
        found = scored if isinstance(scored, dict) else next(scored)
        scores = {name: _finite(method, name, value) for name, value in found.items()}
        for name, keep in mask.items():
            scores[name] = scores[name].masked_fill(~keep, -torch.inf)
        whole = {name: torch.ones_like(scores.pop(name), dtype=torch.bool) for name in dense}
        mask = allocate(network, scores, now) | whole
        if total > 1:
            apply(mask, probe)
    return mask


@SCOPES.register("layerwise")
def layerwise(network: nn.Module, scores: Scores, ratio: float) -> Mask:
    """The same ratio in every convolution and linear layer, at least 1 weight in each."""
    return {name: _top(score, kept(score.numel(), ratio)) for name, score in scores.items()}


@SCOPES.register("global")
def across(network: nn.Module, scores: Scores, ratio: float) -> Mask:
    """All weights of the network in one ranking, layers in their order.

    Exact in total; a layer may lose all of its weights, and connectivity then shows it.
    """
    flat = torch.cat([score.flatten().cpu().double() for score in scores.values()])
    chosen = _top(flat, kept(flat.numel(), ratio)).split([s.numel() for s in scores.values()])
    return {
        name: part.view(score.shape)
        for (name, score), part in zip(scores.items(), chosen, strict=True)
    }


@SCOPES.register("keep_ends")
def keep_ends(network: nn.Module, scores: Scores, ratio: float) -> Mask:
    """The first and the last layer to be used stay dense, every other is pruned as layer-wise.

    The stated ratio is that of each pruned layer, so the network as a whole is less sparse.
    """
    order = _in_order_of_use(network, list(scores))
    dense = {order[0], order[-1]}
    return {
        name: _top(score, kept(score.numel(), 0.0 if name in dense else ratio))
        for name, score in scores.items()
    }


def _in_order_of_use(network: nn.Module, layers: list[str]) -> list[str]:
    """Layers as the traced graph calls them; as they are registered where there is no graph."""
    if not isinstance(network, fx.GraphModule):
        return layers
    called = [str(node.target) for node in network.graph.nodes if node.op == "call_module"]
    return [name for name in called if name in layers] or layers


def _top(score: Tensor, k: int) -> Tensor:
    order = torch.sort(score.flatten().cpu(), descending=True, stable=True).indices
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(score.shape)


def _finite(method: str, name: str, score: Tensor) -> Tensor:
    if not bool(score.isfinite().all()):
        raise SafsError(f"pruning method {method!r}: a score of layer {name!r} is not finite")
    return score.cpu()


def _stated(mask: Mask, ratio: float | None) -> Mask:
    """A given mask, if its ratio is the stated one."""
    if ratio is not None and abs(sparsity(mask) - ratio) > _GIVEN_TOLERANCE:
        found = f"{sparsity(mask):.4f} of the weights"
        raise SafsError(f"the given mask prunes {found}, the stated ratio is {ratio}")
    return mask


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
    probe = pruners.positive_copy(network, weights, torch.sign)
    output = probe(torch.ones(1, *shape, dtype=torch.float64))[0]
    connected = (output > 0).nonzero().flatten().tolist()
    counts = np.sort(np.bincount(labels, minlength=len(output)))[::-1]
    cap = counts[: len(connected) + 1].sum() / counts.sum()
    return Connectivity(tuple(connected), len(output), float(cap))
