"""Training and validation data of a user's own: tensors, or loaders that are read once."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from safs.api.adopt import logits, passed
from safs.datasets.base import Augmentation
from safs.errors import SafsError
from safs.training.data import Fold, Images

Data = tuple[Any, Any] | Iterable[tuple[Any, Any]]
"""``(x, y)`` as tensors or arrays, or batches of such pairs (a ``DataLoader``), or single ones."""

_INTEGERS = {
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class Inputs(Images):
    """Floating-point inputs ``[N, ...]`` of any shape, which the network takes as they are."""

    def normalised(self, index: Tensor | slice) -> Tensor:
        """A copy of the chosen inputs; whoever made them has normalised them already."""
        chosen = self.pixels[index]
        return chosen.clone() if isinstance(index, slice) else chosen


def gather(data: Data, name: str, device: torch.device) -> Inputs:
    """All of ``data`` as tensors on ``device``.

    A loader is read once, so what it draws at random (augmentation, order) is drawn once.

    Args:
        data: a pair of tensors or arrays, or an iterable of such pairs, batches or single inputs
            with their class.
        name: what to call it in an error, e.g. ``"train"``.
        device: where the network is.

    Raises:
        SafsError: a batch is not of finite floats ``[N, ...]`` with integer classes ``[N]``, or
            there is no data at all.
    """
    x, y = _pair(data, name)
    if len(x) == 0:
        raise SafsError(f"{name}: no data")
    x = x.to(torch.float32)
    if not bool(x.isfinite().all()):
        raise SafsError(f"{name}: an input is not finite in float32")
    none = torch.zeros(0, device=device)
    return Inputs(x.to(device), y.to(device, torch.int64), mean=none, std=none)


def fold(train: Data, validation: Data, augmentation: Augmentation, device: torch.device) -> Fold:
    """Both parts as a fold; its number of classes is set by :func:`checked`."""
    inputs = {
        name: gather(data, name, device)
        for name, data in (("train", train), ("validation", validation))
    }
    shapes = [tuple(part.pixels.shape[1:]) for part in inputs.values()]
    if shapes[0] != shapes[1]:
        raise SafsError(f"train has inputs {shapes[0]}, validation {shapes[1]}")
    if (augmentation.pad or augmentation.flip) and len(shapes[0]) != 3:
        raise SafsError(f"augmentation is for images [C, H, W], the inputs are {list(shapes[0])}")
    return Fold(inputs["train"], inputs["validation"], augmentation, classes=0)


def checked(fold: Fold, network: nn.Module, batch_size: int) -> Fold:
    """The fold with its number of classes, if network, labels and batches fit each other.

    Raises:
        SafsError: they do not.
    """
    probe, two = copy.deepcopy(network), fold.train.normalised(slice(0, 2))
    classes = passed(probe.eval(), two).shape[1]
    if not passed(probe.train(), two).requires_grad:
        why = "its forward detaches them, or has layers that do not train (quantised ones)"
        raise SafsError(f"the model returns logits without a gradient: {why}")
    _check_alone(probe, fold.train, batch_size)
    labels = torch.cat([fold.train.labels, fold.validation.labels])
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise SafsError(f"labels run from {low} to {high}, the module has {classes} outputs")
    return replace(fold, classes=classes)


def _check_alone(probe: nn.Module, train: Images, batch_size: int) -> None:
    """A single input must pass: its operations are counted, and a batch may consist of it."""
    one, count = train.normalised(slice(0, 1)), len(train)
    passed(probe.eval(), one)
    if batch_size != 1 and count % batch_size != 1:
        return
    try:
        logits(probe.train(), one)
    except SafsError as error:
        left = f"batches of {batch_size} leave one of {count} inputs alone"
        raise SafsError(f"{left}; {error}; choose another batch_size") from error


def _pair(data: Data, name: str) -> tuple[Tensor, Tensor]:
    if isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "dtype"):
        batches = [data]
    else:
        batches = list(_read(data, name))
    if not batches:
        raise SafsError(f"{name}: no data")
    try:
        pairs = [_batch(_tensor(x), _tensor(y)) for x, y in batches]
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        expected = "expected (x, y), or batches of inputs and labels"
        raise SafsError(f"{name}: {expected}; {reason}") from error
    for x, y in pairs:
        _check_pair(x, y, name)
    shapes = sorted({tuple(x.shape[1:]) for x, _ in pairs})
    if len(shapes) > 1:
        raise SafsError(f"{name}: inputs of several shapes, {shapes[0]} and {shapes[1]}")
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def _check_pair(x: Tensor, y: Tensor, name: str) -> None:
    if not (x.is_floating_point() and x.dim() >= 2):
        found = f"{x.dtype} {list(x.shape)}"
        raise SafsError(f"{name}: inputs are {found}, expected floats [N, ...], normalised")
    if y.dtype not in _INTEGERS or y.shape != x.shape[:1]:
        found = f"{y.dtype} {list(y.shape)}"
        raise SafsError(f"{name}: labels are {found}, expected integer classes [{len(x)}]")


def _read(data: Data, name: str) -> Iterable[Any]:
    """What a loader or a data set gives, item by item."""
    if isinstance(data, Dataset) and hasattr(data, "__len__"):
        return (data[index] for index in range(len(data)))
    if not isinstance(data, Iterable):
        found = type(data).__name__
        raise SafsError(f"{name}: got a {found}, expected (x, y), or batches of inputs and labels")
    return data


def _tensor(value: Any) -> Tensor:
    """A dense tensor. Raises TypeError for any other, one line for torch's hundred."""
    if isinstance(value, np.ndarray):
        if np.ma.is_masked(value):
            raise TypeError("got a masked array, expected no value to be missing")
        value = np.require(value, requirements=["C", "W"])  # torch takes no negative strides
    tensor = torch.as_tensor(value).detach()
    if tensor.is_nested or tensor.is_meta or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else tensor.device if tensor.is_meta else tensor.layout
        raise TypeError(f"got a {kind} tensor, expected dense ones with values")
    return tensor


def _batch(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A single input with its class becomes a batch of one."""
    return (x[None], y[None]) if y.dim() == 0 else (x, y)
