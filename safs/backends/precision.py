"""Whether CUDA may round the factors of float32 products and convolutions to TF32.

torch has two generations of switches for it, and raises where a program that used the newer asks
for the older; so only the newer are touched where they exist (from torch 2.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


def set_tf32(allowed: bool) -> None:
    """Let products, convolutions and recurrent layers round, or not."""
    for place in _places():
        setattr(place, _SWITCH, _value(allowed))


def tf32() -> bool:
    """Whether any of them may round."""
    return any(getattr(place, _SWITCH) != _value(False) for place in _places())


@contextmanager
def kept() -> Iterator[None]:
    """Afterwards all switches are as they were."""
    before = [getattr(place, _SWITCH) for place in _places()]
    try:
        yield
    finally:
        for place, value in zip(_places(), before, strict=True):
            setattr(place, _SWITCH, value)


_SWITCH = "fp32_precision" if _NEW else "allow_tf32"


def _places() -> tuple[Any, ...]:
    backends: Any = torch.backends
    if not _NEW:
        return backends.cuda.matmul, backends.cudnn
    return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn


def _value(allowed: bool) -> str | bool:
    return ("tf32" if allowed else "ieee") if _NEW else allowed
