"""What a weight is worth: one score function per pruning method.

SAFS does not depend on how a network was pruned (Section 3.1), so its masks may come from any of
these. A pruner is one decorated function. It takes the network and, as keyword arguments that it
names, whatever else it needs:

* ``images``, ``labels``: a batch of training images ``[B, ...]`` and their classes ``[B]``;
* ``shape``: the shape of one image, without the batch;
* ``rng``: a seeded numpy generator;
* ``given``: a mask, as :func:`safs.pruning.given.read` returns it.

It returns a tensor of the weight's shape for each prunable layer; larger scores survive. How many
do is decided by the scope (:func:`safs.pruning.prune.prune`), not here. An iterative method is a
generator of such scores (:func:`iterative`). SNIP, GraSP and SynFlow are computed in float64 on a
copy on the CPU; their authors rank the weights of all layers together: the scope ``global``.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from safs import slots
from safs.networks import prunable
from safs.registry import Registry

Scores = dict[str, Tensor]
Pruner = Callable[..., Scores | Iterator[Scores]]
P = TypeVar("P", bound=Pruner)

PRUNERS: Registry[Pruner] = Registry("pruning method")


def iterative(rounds: int) -> Callable[[P], P]:
    """Decorator: prune in ``rounds`` steps of equal factor, scoring the survivors anew each time.

    The decorated generator yields the scores of the network as it stands; before it is asked again,
    the weights that went are set to 0 in the network it was given, which is a copy. After round i
    of n the fraction ``(1 - ratio) ** (i / n)`` of the weights is left.
    """

    def mark(score: P) -> P:
        score.rounds = rounds  # type: ignore[attr-defined]
        return score

    return mark


def rounds(score: Pruner) -> int:
    """How often a method scores: 1 unless it is :func:`iterative`."""
    return int(getattr(score, "rounds", 1))


def needs(score: Pruner) -> tuple[str, ...]:
    """What a score function wants beside the network, by name."""
    return tuple(inspect.signature(score).parameters)[1:]


@PRUNERS.register("magnitude")
def magnitude(network: nn.Module) -> Scores:
    """The absolute value of each weight.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks".
    """
    return {name: weight.detach().abs() for name, weight in prunable(network).items()}


@PRUNERS.register("random")
def random(network: nn.Module, *, rng: np.random.Generator) -> Scores:
    """A uniform number for each weight: the control that knows nothing."""
    return {
        name: torch.from_numpy(rng.random(tuple(weight.shape)))
        for name, weight in prunable(network).items()
    }


@PRUNERS.register("snip")
def snip(network: nn.Module, *, images: Tensor, labels: Tensor) -> Scores:
    """``|w dL/dw|``, the first-order change of the loss when a weight is removed.

    Lee, Ajanthan, Torr, "SNIP: Single-Shot Network Pruning Based on Connection Sensitivity". Their
    division by the sum of all scores changes no order and is left out.
    """
    probe = _copy(network)
    weights = _differentiable(probe)
    gradients = _gradients(_loss(probe, images, labels), weights)
    return {name: (weight * gradients[name]).abs().detach() for name, weight in weights.items()}


@PRUNERS.register("grasp")
def grasp(network: nn.Module, *, images: Tensor, labels: Tensor) -> Scores:
    """``w * (H g)``: weights whose removal would cost gradient flow survive.

    Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow"; the
    negative of their S(-w), of which the largest go. H and g are the Hessian and the gradient of
    the loss in the prunable weights. The authors' program divides the logits by 200 first; their
    derivation does not, nor does this.
    """
    probe = _copy(network)
    weights = _differentiable(probe)
    gradients = _gradients(_loss(probe, images, labels), weights, create_graph=True)
    flow = torch.stack([(g * g.detach()).sum() for g in gradients.values()]).sum()
    products = _gradients(flow, weights)
    return {name: (weight * products[name]).detach() for name, weight in weights.items()}


@PRUNERS.register("synflow")
@iterative(rounds=100)
def synflow(network: nn.Module, *, shape: tuple[int, ...]) -> Iterator[Scores]:
    """``w dR/dw`` with R the sum of outputs of the network of absolute weights, for an input of 1s.

    Tanaka, Kunin, Yamins, Ganguli, "Pruning Neural Networks without Any Data by Iteratively
    Conserving Synaptic Flow". The copy that is scored is linear where the network's own parts are:
    activations are the identity, biases 0 and batch norm neutral. In float64, since R grows
    with the product of all layers' sums.
    """
    own = prunable(network)
    probe = positive_copy(network, {}, lambda x: x)
    weights = _differentiable(probe)
    ones = torch.ones(1, *shape, dtype=torch.float64)
    while True:
        for name, weight in weights.items():
            weight.data.copy_(own[name].detach().abs())
        gradients = _gradients(probe(ones).sum(), weights)
        yield {name: (weight * gradients[name]).detach() for name, weight in weights.items()}


@PRUNERS.register("given")
def given(network: nn.Module, *, given: Mapping[str, Tensor]) -> Scores:
    """1 where a given mask keeps a weight, which is then taken as it is."""
    return {name: given[name].double() for name in prunable(network)}


@torch.no_grad()
def positive_copy(
    network: nn.Module, weights: Mapping[str, Tensor], activation: Callable[[Tensor], Tensor]
) -> nn.Module:
    """A float64 copy on the CPU in which a positive input travels along surviving weights only.

    Args:
        network: an installed network (with slots).
        weights: non-negative weights of prunable layers; the others keep theirs.
        activation: what stands in every slot; it keeps positive numbers positive and 0 at 0.
    """
    probe = copy.deepcopy(network).cpu().double().eval()
    for name, weight in prunable(probe).items():
        if name in weights:
            weight.copy_(weights[name].double())
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        if isinstance(getattr(module, "bias", None), Tensor):
            module.get_parameter("bias").zero_()
    for slot in slots.slots(probe).values():
        slot.forward = activation  # type: ignore[method-assign,assignment]
    return probe


def _copy(network: nn.Module) -> nn.Module:
    """A float64 copy whose batch norm uses the batch at hand and whose dropout is off."""
    probe = copy.deepcopy(network).cpu().double().eval()
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return probe


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(network(images.cpu().double()), labels.cpu())


def _differentiable(probe: nn.Module) -> dict[str, Tensor]:
    """The prunable weights of a copy, also where the network's own are frozen."""
    return {name: weight.requires_grad_(True) for name, weight in prunable(probe).items()}


def _gradients(
    value: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False
) -> dict[str, Tensor]:
    """The gradient in each weight; 0 where a weight has no influence."""
    found = torch.autograd.grad(
        value, list(weights.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))
