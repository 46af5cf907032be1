"""The Python face of the kernels: one network, compiled for one recipe."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from safs.backends.base import EpochSums, State
from safs.kernels import graph, plans
from safs.kernels import structures as c
from safs.kernels.cores import threads as default_threads
from safs.kernels.filling import fill
from safs.kernels.memory import Parameter, pointer
from safs.kernels.plan import OPERATIONS, Plan, check
from safs.masks import Mask
from safs.spec import Recipe
from safs.training.data import Images


class Timing(NamedTuple):
    """One operation of a training epoch: its layer, what it does, its time and its work."""

    layer: str
    operation: str
    seconds: float
    multiply_adds: int


def compile(
    network: fx.GraphModule,
    mask: Mask,
    recipe: Recipe,
    input_shape: tuple[int, int, int],
    batch_size: int,
    threads: int | None = None,
) -> SparseNetwork:
    """Prepare a masked network for sparse training.

    Args:
        network: an installed network on the CPU, its slots filled, its pruned weights 0.
        mask: the surviving weights of every convolution and linear layer.
        recipe: optimiser and its settings; the learning rate comes with every epoch.
        input_shape: ``(channels, height, width)`` of the images.
        batch_size: images per step.
        threads: that share the images of a step, by default :func:`safs.kernels.cores.threads`.
            Their number changes no bit, and each needs memory of its own for the images in work.

    Raises:
        safs.kernels.Unsupported: no compiler, or something that the kernels do not know.
    """
    library = c.library()
    check(network, mask)
    threads = default_threads() if threads is None else threads
    layers = graph.read(network, input_shape)
    key = plans.key(layers, mask, batch_size, threads)
    plan = plans.take(key) or Plan(network, layers, mask, batch_size, threads)
    fill(plan, network, recipe)
    return SparseNetwork(library, plan, key)


class SparseNetwork:
    """A masked network in training; made by :func:`compile`.

    When it is gone, its plan serves the next network of the same layers and mask, unless something
    in it was not finite.
    """

    def __init__(self, library: ctypes.CDLL, plan: Plan, key: Hashable) -> None:
        self._lib, self._plan = library, plan
        self._source: _Source | None = None
        self._gone = weakref.finalize(self, plans.give, key, plan)
        self._gone.atexit = False

    def train_epoch(
        self,
        images: Images,
        order: np.ndarray,
        lr: float,
        *,
        pad: int = 0,
        shift: np.ndarray | None = None,
        mirror: np.ndarray | None = None,
    ) -> EpochSums:
        """Train one epoch: every image of ``order`` once, in batches; the last may be smaller.

        Args:
            images: the training images, on the CPU.
            order: int64 ``[M]``, numbers of images.
            lr: learning rate of every step.
            pad: width of the border that crops may reach into.
            shift: ``[N, 2]`` rows and columns of each image's crop, by number of the image, as
                :func:`safs.training.data.crop` takes them; None for no cropping.
            mirror: bool ``[N]``, whether each image is flipped left to right; None for no flips.
        """
        sums = c.Sums()
        order = np.ascontiguousarray(order, np.int64)
        source = self._images(images)
        source.augment(pad, shift, mirror)
        self._lib.safs_train_epoch(
            ctypes.byref(self._plan.program), ctypes.byref(source.struct), _address(source.labels),
            _address(order), ctypes.c_int64(len(order)), ctypes.c_double(lr), ctypes.byref(sums),
        )  # fmt: skip
        if not math.isfinite(sums.loss):
            self._gone.detach()
        for buffers in self._plan.buffers.values():
            buffers["steps"] += sums.steps
        return EpochSums(
            sums.loss, int(sums.correct), sums.flow, sums.flow_step, sums.flow_released,
            sums.steps, sums.images, None if math.isfinite(sums.loss) else sums.steps,
        )  # fmt: skip

    def logits(self, images: Images) -> np.ndarray:
        """float32 ``[N, classes]`` in evaluation mode."""
        order = np.arange(len(images))
        logits = np.empty((len(images), self._plan.head.classes), np.float32)
        source = _Source(images)
        self._lib.safs_logits(
            ctypes.byref(self._plan.program), ctypes.byref(source.struct), _address(order),
            ctypes.c_int64(len(order)), _address(logits),
        )  # fmt: skip
        if not np.isfinite(logits).all():
            self._gone.detach()
        return logits

    def _images(self, images: Images) -> _Source:
        """The images as the C++ side sees them; those of the last epoch are still at hand."""
        if self._source is None or self._source.images is not images:
            self._source = _Source(images)
        return self._source

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the present parameters and buffers into the torch network; pruned weights are 0."""
        for tensor in self._plan.tensors.values():
            tensor.source.copy_(_whole(tensor, tensor.value))
        modules = dict(self._plan.network.named_modules())
        for name, buffers in self._plan.buffers.items():
            for key in ("running_mean", "running_var"):
                getattr(modules[name], key).copy_(torch.from_numpy(buffers[key]))
            modules[name].num_batches_tracked.fill_(int(buffers["steps"][0]))

    def state(self) -> State:
        """Everything that a training needs to go on bit for bit; fit for ``torch.save``."""
        return {
            "step": int(self._plan.program.rule.step),
            "parameters": {
                name: {key: _copy(getattr(tensor, key)) for key in _PER_PARAMETER}
                for name, tensor in self._plan.tensors.items()
            },
            "norms": {
                name: {key: _copy(value) for key, value in buffers.items()}
                for name, buffers in self._plan.buffers.items()
            },
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to a :meth:`state` of the same network, mask and recipe."""
        self._plan.program.rule.step = state["step"]
        for name, tensor in self._plan.tensors.items():
            for key in _PER_PARAMETER:
                getattr(tensor, key)[:] = state["parameters"][name][key].numpy()
        for name, buffers in self._plan.buffers.items():
            for key, value in buffers.items():
                value[:] = state["norms"][name][key].numpy()

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the last batch by parameter name, in the shapes of torch; pruned ones 0."""
        return {
            name: _whole(tensor, tensor.gradient) for name, tensor in self._plan.tensors.items()
        }

    def profile(self, images: Images, order: np.ndarray) -> list[Timing]:
        """Where the time of one training epoch goes; parameters stay as they were."""
        plan, before = self._plan, self.state()
        for _, operation in plan.operations:
            operation.seconds = 0.0
        plan.program.profile = 1
        self.train_epoch(images, order, 0.0)
        plan.program.profile = 0
        self.load(before)
        return [
            Timing(step.layer, OPERATIONS[operation.code], operation.seconds, step.multiply_adds)
            for step, operation in plan.operations
        ]

    @property
    def memory(self) -> int:
        """Bytes of all feature maps and gradients."""
        return self._plan.arena.size


_PER_PARAMETER = ("value", "first", "second", "weight_sum")


def _whole(tensor: Parameter, survivors: np.ndarray) -> Tensor:
    """Values of survivors in the shape of the torch parameter, 0 elsewhere."""
    whole = np.zeros(tensor.source.numel(), np.float32)
    whole[tensor.flat] = survivors
    return torch.from_numpy(whole).view(tensor.source.shape)


def _copy(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class _Source:
    """A data set as the C++ side sees it: ``struct``, and the arrays that it points into."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.labels = np.ascontiguousarray(images.labels.numpy(), np.int64)
        pixels = images.pixels.contiguous().numpy()
        mean, std = (x.double().numpy().reshape(-1) for x in (images.mean, images.std))
        self._still = [
            pixels if pixels.dtype == np.uint8 else None,
            pixels if pixels.dtype == np.float32 else None,
        ]
        self._scale = [(1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)]
        self.augment(0, None, None)

    def augment(self, pad: int, shift: np.ndarray | None, mirror: np.ndarray | None) -> None:
        """Set this epoch's crops and flips."""
        self._moves = [
            None if shift is None else np.ascontiguousarray(shift, np.int64),
            None if mirror is None else np.ascontiguousarray(mirror, np.uint8),
        ]
        self.struct = c.Images(*map(pointer, (*self._still, *self._moves, *self._scale)), pad)
