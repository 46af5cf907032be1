"""Which weights compete with each other for survival, and how many survive."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor, fx, nn

from safs.errors import SafsError
from safs.masks import Mask
from safs.pruning.pruners import Scores
from safs.registry import Registry

SCOPES: Registry[Callable[[nn.Module, Scores, float], Mask]] = Registry("pruning scope")


def kept(total: int, ratio: float) -> int:
    """Surviving weights of a layer: ``total - round(ratio * total)``, half to even, at least 1."""
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= ratio < 1:
        found = " ".join(repr(ratio).split())
        raise SafsError(f"pruning ratio {found}: expected a number in [0, 1)")
    return max(1, total - round(ratio * total))


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
    called = [
        str(node.target).removesuffix(".weight")
        for node in network.graph.nodes
        if node.op in ("call_module", "get_attr")
    ]
    return [name for name in called if name in layers] or layers


def _top(score: Tensor, k: int) -> Tensor:
    order = torch.sort(score.flatten().cpu(), descending=True, stable=True).indices
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(score.shape)
