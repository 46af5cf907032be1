"""Faster arithmetic for the steps of PyTorch, one small function for each way.

Every way changes rounding, so each is off by default and, where it is on, part of a training's
identity. ``channels_last``, ``bf16`` and ``compile`` are tested on the CPU, ``graphs``
(:mod:`safs.backends.graphs`) on a simulated device; what they do on CUDA devices, TF32, and the
CUDA graphs of ``compile`` are checked by ``make check-gpu`` alone, which has passed on an H200.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from safs.backends.precision import set_tf32
from safs.spec import Acceleration


class Faster:
    """How one network's forward pass is computed; its parameters stay float32.

    Args:
        network: taken into the memory layout asked for, in place.
        device: where it lives.
        options: which ways.
    """

    def __init__(self, network: nn.Module, device: torch.device, options: Acceleration) -> None:
        self.device, self.options = device, options
        self.round(options.tf32)
        if options.channels_last:
            network.to(memory_format=torch.channels_last)
        self.forward: Callable[[Tensor], Tensor] = compiled(network, options)

    @property
    def graphs(self) -> bool:
        """Whether steps are replayed from a graph, which CUDA devices alone have."""
        return self.options.graphs and self.device.type == "cuda"

    def round(self, tf32: bool) -> None:
        """Let a CUDA device round factors to TF32, or not; other settings stay untouched."""
        if self.device.type == "cuda":
            set_tf32(tf32)

    def images(self, batch: Tensor) -> Tensor:
        """A batch ``[B, C, H, W]`` in the memory layout asked for."""
        if self.options.channels_last and batch.dim() == 4:
            return batch.contiguous(memory_format=torch.channels_last)
        return batch

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 where the device gains by it, float32 elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16)


def compiled(network: nn.Module, options: Acceleration) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, through torch.compile if asked for.

    torch captures a step in a CUDA graph by itself in the mode ``reduce-overhead``.
    """
    if options.compile == "off":
        return network
    mode = "reduce-overhead" if options.compile == "cuda_graphs" else "default"
    forward: Callable[[Tensor], Tensor] = torch.compile(network, mode=mode)
    return forward
