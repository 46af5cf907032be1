"""The registry of networks and how one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from safs import seeds, slots
from safs.registry import Registry


@dataclass(frozen=True)
class Network:
    """An entry of :data:`NETWORKS`.

    Attributes:
        make: ``(shape, classes, **options) -> nn.Module`` with torch's own initialisation; the
            activations in it are found and replaced by slots.
        default: the operator of the dense network (ReLU; Swish for EfficientNet-B0).
    """

    name: str
    label: str
    make: Callable[..., nn.Module]
    default: str


NETWORKS: Registry[Network] = Registry("network")
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers whose weights are pruned."""


def network(
    name: str, *, label: str, default: str = "relu"
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register the decorated ``(shape, classes, **options) -> nn.Module`` as a network."""

    def register(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        NETWORKS.add(name, Network(name, label, make, default), make)
        return make

    return register


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    root: int = 0,
    replicate: int = 0,
    options: Mapping[str, Any] | None = None,
) -> fx.GraphModule:
    """A freshly initialised network with slots, on the CPU.

    Args:
        name: an entry of :data:`NETWORKS`.
        shape: ``(channels, height, width)`` of the images.
        classes: number of outputs.
        root, replicate: key of the initialisation's seed stream; the global generator of torch is
            left as it was.
        options: further arguments of the network's function.
    """
    entry = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which also seeds the generators of CUDA devices.
        torch.default_generator.manual_seed(seeds.integer(root, "init", replicate))
        model = entry.make(shape, classes, **(options or {}))
    return slots.install(model, torch.zeros(2, *shape), entry.default)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning acts on, by layer name: every convolution and linear layer.

    First and last layer included; biases and batch norm are never pruned. A network that was
    adopted (:mod:`safs.api.adopt`) names its weights itself, in ``meta["weights"]``: a parameter
    ``conv.weight`` is that of the layer ``conv``, any other goes by its own name.
    """
    named = getattr(model, "meta", {}).get("weights")
    if named is not None:
        return {name.removesuffix(".weight"): model.get_parameter(name) for name in named}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
    return {name: layer.get_parameter("weight") for name, layer in layers.items()}
