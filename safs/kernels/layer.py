"""One masked layer on the kernels, inside a network that torch runs."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from safs.kernels import graph, survivors
from safs.kernels import structures as c
from safs.kernels.build import Unsupported
from safs.kernels.graph import Conv, Shape, Value
from safs.kernels.memory import Arena, FeatureMap, images_per_pixel, pointer


class KernelLayer:
    """A convolution or linear layer on inputs of one shape, at the cost of its survivors.

    Calling it is the module's forward pass, differentiable once; the gradient of a pruned weight is
    0. Weights and bias are the module's own at the time of the call. A few images at a time go
    through buffers of its own, so one call must end before the next begins.

    Args:
        name: of the module, for errors.
        module: the layer; pruned weights count as 0 whatever they are.
        keep: bool, the shape of its weight.
        shape: of one input without its batch dimensions.
        batch: about how many inputs come in one call.

    Raises:
        Unsupported: no compiler, or a layer that the kernels do not know.
    """

    def __init__(
        self, name: str, module: nn.Module, keep: np.ndarray, shape: tuple[int, ...], batch: int
    ) -> None:
        self._lib = c.library()
        self._module = module
        conv, found = _read(name, module, shape)
        self._in, self._out = shape, conv.z.shape[: len(shape)]
        self._struct, self._memory = _prepare(conv, found, keep, batch)

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` or ``[..., features]``, float32 on the CPU."""
        z: Tensor = _Call.apply(x, self._module.weight, self._module.bias, self)
        return z

    def batch(self, x: Tensor) -> int:
        """How many inputs there are in ``x``."""
        return x.shape[: x.dim() - len(self._in)].numel()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output of a contiguous input."""
        z = x.new_empty(*x.shape[: x.dim() - len(self._in)], *self._out)
        self._lib.safs_layer_forward(
            ctypes.byref(self._struct), ctypes.c_int64(self.batch(x)),
            *(_address(t) for t in (weight, bias, x, z)),
        )  # fmt: skip
        return z

    def backward(
        self, x: Tensor, weight: Tensor, gz: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of input and weight, each if wanted, from that of the output."""
        gx = torch.empty_like(x) if wanted[0] else None
        g_weight = torch.zeros_like(weight) if wanted[1] else None
        self._lib.safs_layer_backward(
            ctypes.byref(self._struct), ctypes.c_int64(self.batch(x)),
            *(_address(t) for t in (weight, x, gz, g_weight, gx)),
        )  # fmt: skip
        return gx, g_weight


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: KernelLayer
    ) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return layer.forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gz: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), wanted, gz = ctx.saved_tensors, ctx.needs_input_grad, gz.contiguous()
        gx, g_weight = ctx.layer.backward(x, weight, gz, wanted[:2])
        g_bias = gz.view(ctx.layer.batch(x), len(weight), -1).sum((0, 2)) if wanted[2] else None
        return gx, g_weight, g_bias, None


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _read(name: str, module: nn.Module, shape: tuple[int, ...]) -> tuple[Conv, Shape]:
    """The layer alone, all of its output needed, and the shape of its input as a map."""
    if isinstance(module, nn.Conv2d) and len(shape) == 3:
        found: Shape = (shape[0], shape[1], shape[2])
        conv = graph.convolution(
            name, module, found, lambda step: Value(graph.phase_planes(found, step))
        )
    elif isinstance(module, nn.Linear):
        found = (shape[0], 1, 1)
        conv = graph.linear(name, module, Value(found))
    else:
        raise Unsupported(f"sparse kernels: layer {name} is a {type(module).__name__}")
    conv.z.need[:] = True
    return conv, found


def _prepare(conv: Conv, shape: Shape, keep: np.ndarray, batch: int) -> tuple[Any, Any]:
    """The structure that the C++ side reads, and the memory that it points into.

    Args:
        conv: the layer.
        shape: of its input, before it is split into phase planes.
        keep: bool, the survivors.
        batch: about how many inputs come in one call.
    """
    found, flat, arena = survivors.entries(conv, keep), np.flatnonzero(keep), Arena()
    (channels, height, width), (out, out_height, out_width) = conv.x.shape, conv.z.shape
    n = images_per_pixel(height, batch)
    pad = found.border(height, width, out_height, out_width)
    x, gx = (FeatureMap(arena, conv.x.shape, n, n, False, pad=pad) for _ in range(2))
    back = found.transposed().border(out_height, out_width, height, width)
    z = FeatureMap(arena, conv.z.shape, n, n, False, pad=back)
    lists, passes = survivors.lists(
        found, x, z, (conv.x.shape, conv.z.shape), np.arange(out), np.arange(channels), pad > 0
    )
    copies = {key: np.zeros(len(found) + 8, np.float32) for key in lists}
    order = {key: flat[made.order].astype(np.int32) for key, made in lists.items()}
    keys, count = ("sums", "forward", "backward"), len(found)
    struct = c.Single(
        forward=c.Convolution(
            lists["forward"].struct, x.struct, z.struct, pointer(copies["forward"]), None,
            c.Partial(), 0, out_height, out_width * n, out,
        ),
        backward=c.Convolution(
            lists["backward"].struct, z.struct, gx.struct, pointer(copies["backward"]), None,
            c.Partial(), 0, height, width * n, channels,
        ),
        gradient=c.WeightGradient(
            lists["sums"].struct, x.struct, z.struct, pointer(copies["sums"]), count + 8,
            out_height, out_width * n, passes,
        ),
        weights=c.Weights(
            None, None, *(pointer(copies[key]) for key in keys),
            *(pointer(order[key]) for key in keys), *[count] * 4, count + 8,
        ),
    )  # fmt: skip
    inner, outer = _places(x, shape, conv.step), _places(z, conv.z.shape, 1)
    struct.x, struct.gx = (_blocks(m, inner, conv.step) for m in (x, gx))
    struct.y = _blocks(z, outer, 1)
    return struct, (x, gx, z, lists, copies, order, inner, outer)


def _places(target: FeatureMap, shape: Shape, step: int) -> np.ndarray:
    """Where the pixels of a group of channels lie in a map, ``[channels, pixels]``.

    A group is one channel, or all of them where a channel has less than eight pixels.
    """
    channels, height, width = shape
    h, w = np.arange(height)[:, None], np.arange(width)
    channel, row, pixel = target.strides
    place = (h % step * step + w % step) * channel + h // step * row + w // step * pixel
    group = 1 if height * width >= 8 else channels
    whole = np.arange(group)[:, None] * step**2 * channel + place.reshape(1, -1)
    return whole.astype(np.int32)


def _blocks(target: FeatureMap, places: np.ndarray, step: int) -> Any:
    stride = len(places) * step**2 * target.channel
    groups = target.struct.image_block_stride // stride
    return c.Blocks(target.struct, pointer(places), groups, places.size, stride)
