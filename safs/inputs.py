"""Training and validation data of a user's own: tensors, or loaders that are read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safs.data import Images
from safs.errors import SafsError

Data = tuple[Any, Any] | Iterable[tuple[Any, Any]]
"""``(x, y)`` as tensors or arrays, or batches of such pairs (a ``DataLoader``)."""


@dataclass(frozen=True)
class Inputs(Images):
    """Floating-point inputs ``[N, ...]`` of any shape, which the network takes as they are."""

    def normalised(self, index: Tensor | slice) -> Tensor:
        """The chosen inputs; whoever made them has normalised them already."""
        return self.pixels[index]


def gather(data: Data, name: str, device: torch.device) -> Inputs:
    """All of ``data`` as tensors on ``device``.

    A loader is read once, so what it draws at random (augmentation, order) is drawn once.

    Args:
        data: a pair of tensors or arrays, or an iterable of such pairs.
        name: what to call it in an error, e.g. ``"train"``.
        device: where the network is.

    Raises:
        SafsError: not floats ``[N, ...]`` with integer classes ``[N]``, or no data at all.
    """
    x, y = _pair(data, name)
    if not (x.is_floating_point() and x.dim() >= 2):
        found = f"{x.dtype} {list(x.shape)}"
        raise SafsError(f"{name}: inputs are {found}, expected floats [N, ...], normalised")
    if y.is_floating_point() or y.dtype == torch.bool or y.shape != x.shape[:1]:
        found = f"{y.dtype} {list(y.shape)}"
        raise SafsError(f"{name}: labels are {found}, expected integer classes [{len(x)}]")
    if len(x) == 0:
        raise SafsError(f"{name}: no data")
    if not bool(x.isfinite().all()):
        raise SafsError(f"{name}: an input is not finite")
    none = torch.zeros(0, device=device)
    return Inputs(x.to(device, torch.float32), y.to(device, torch.int64), mean=none, std=none)


def _pair(data: Data, name: str) -> tuple[Tensor, Tensor]:
    if isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "dtype"):
        return torch.as_tensor(data[0]).detach(), torch.as_tensor(data[1]).detach()
    try:
        batches = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in data]
    except (TypeError, ValueError, RuntimeError) as error:
        expected = "expected (x, y), or batches of inputs and labels"
        raise SafsError(f"{name}: {expected}; {error}") from error
    if not batches:
        raise SafsError(f"{name}: no data")
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
