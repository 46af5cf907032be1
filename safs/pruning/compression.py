"""What a mask saves: parameters and multiply-accumulates (Appendix D and Figure 8).

Counted as Blalock et al., "What is the State of Neural Network Pruning?" ask for: compression ratio
and theoretical speedup against the dense network, with groups, strides and padding as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from safs import masks, slots
from safs.networks import prunable


@dataclass(frozen=True)
class LayerSize:
    """One prunable layer.

    Attributes:
        weights, kept: all weights and surviving ones; biases are not among them.
        macs, sparse_macs: multiply-accumulates for one image, of all weights and of survivors.
    """

    name: str
    weights: int
    kept: int
    macs: int
    sparse_macs: int


@dataclass(frozen=True)
class Compression:
    """The size and the cost of a sparse network beside the dense one.

    Attributes:
        parameters: of the dense network: weights, biases and batch norm, without activations'.
        nonzero: of these, the ones that are not pruned.
        activation: learned parameters of the slots, which the dense network has not: two per slot
            with alpha and beta, four per channel with SReLU.
        macs, sparse_macs: multiply-accumulates of convolutions and linear layers for one image;
            what else has weights (recurrent layers, attention's projections) counts as none.
        layers: one entry per prunable layer.
    """

    parameters: int
    nonzero: int
    activation: int
    macs: int
    sparse_macs: int
    layers: tuple[LayerSize, ...]

    @property
    def ratio(self) -> float:
        """Dense parameters over those of the sparse network, its activations' included."""
        return self.parameters / (self.nonzero + self.activation)

    @property
    def speedup(self) -> float:
        """Theoretical speedup: dense over sparse multiply-accumulates; 1 where none is left."""
        return self.macs / self.sparse_macs if self.sparse_macs else 1.0


def account(
    network: nn.Module,
    mask: Mapping[str, Tensor],
    shape: tuple[int, int, int],
    *,
    count_padding: bool = True,
) -> Compression:
    """Count a network's parameters and multiply-accumulates; the network is left as it is.

    Args:
        network: an installed network; what its slots hold decides ``activation``.
        mask: the surviving weights of every prunable layer.
        shape: ``(channels, height, width)`` of an image.
        count_padding: whether a multiplication by a zero of the padding counts. It does by
            convention; without, a 5x5 kernel on a single pixel costs one multiplication, not 25.

    Raises:
        SafsError: the mask does not fit the network.
    """
    masks.check(mask, network)
    uses = _uses(network, shape, count_padding)
    layers = tuple(
        LayerSize(
            name=name,
            weights=mask[name].numel(),
            kept=int(mask[name].sum()),
            macs=int(uses[name].expand(mask[name].shape).sum()),
            sparse_macs=int((uses[name] * mask[name].cpu()).sum()),
        )
        for name in prunable(network)
    )
    activation = slots.activation_parameters(network)
    own = {id(p) for slot in slots.slots(network).values() for p in slot.parameters()}
    parameters = sum(p.numel() for p in network.parameters() if id(p) not in own)
    return Compression(
        parameters=parameters,
        nonzero=parameters - sum(layer.weights - layer.kept for layer in layers),
        activation=sum(p.numel() for p in activation),
        macs=sum(layer.macs for layer in layers),
        sparse_macs=sum(layer.sparse_macs for layer in layers),
        layers=layers,
    )


def _uses(
    network: nn.Module, shape: tuple[int, int, int], count_padding: bool
) -> dict[str, Tensor]:
    """How often one image uses each weight, int64, broadcast against the layer's weight.

    Shapes come from a forward pass on the meta device, which computes nothing, or on the CPU where
    the network needs values. A layer that is used twice counts twice.
    """
    try:
        return _uses_on("meta", network, shape, count_padding)
    except RuntimeError:  # a shape or an index that depends on values
        return _uses_on("cpu", network, shape, count_padding)


def _uses_on(
    device: str, network: nn.Module, shape: tuple[int, int, int], count_padding: bool
) -> dict[str, Tensor]:
    probe = copy.deepcopy(network).to(device).eval()
    modules = dict(probe.named_modules())
    uses = {name: torch.zeros((), dtype=torch.int64) for name in prunable(network)}

    def count(name: str, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            uses[name] = uses[name] + output.numel() // layer.out_features
        elif layer.transposed:
            uses[name] = uses[name] + prod(inputs[0].shape[2:])
        else:
            uses[name] = uses[name] + _taps(layer, inputs[0], output, count_padding)

    for name in uses:
        if isinstance(modules.get(name), nn.Linear | nn.modules.conv._ConvNd):
            modules[name].register_forward_hook(
                lambda layer, inputs, output, name=name: count(name, layer, inputs, output)
            )
    with torch.no_grad():
        probe(torch.zeros(1, *shape, device=device))
    return uses


def _taps(layer: Any, image: Tensor, output: Tensor, count_padding: bool) -> Tensor:
    """Output positions at which each tap of a kernel is used: ``[1, 1, *kernel]``."""
    sizes, positions = image.shape[2:], output.shape[2:]
    if count_padding or layer.padding_mode != "zeros":
        return torch.full((1, 1, *layer.kernel_size), prod(positions))
    table = torch.ones((), dtype=torch.int64)
    for axis, (size, count) in enumerate(zip(sizes, positions, strict=True)):
        table = table[..., None] * _inside(layer, axis, size, count)
    return table[None, None]


def _inside(layer: Any, axis: int, size: int, positions: int) -> Tensor:
    """Along one axis, at how many output positions each tap lies inside the image: ``[kernel]``."""
    kernel, dilation = layer.kernel_size[axis], layer.dilation[axis]
    if layer.padding == "same":
        pad = dilation * (kernel - 1) // 2
    else:
        pad = 0 if layer.padding == "valid" else layer.padding[axis]
    start = torch.arange(positions)[:, None] * layer.stride[axis] - pad
    pixel = start + dilation * torch.arange(kernel)
    return ((pixel >= 0) & (pixel < size)).sum(0)
