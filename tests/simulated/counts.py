"""What a program asks of the device, and from which line of this repository."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = tuple(f"{ROOT / package}/" for package in ("safs", "pipelines"))
_TESTS = f"{ROOT / 'tests'}/"
_OURS = {
    str(Path(__file__).with_name(f"{name}.py")) for name in ("counts", "tensor", "cuda", "graphs")
}


@dataclass
class Counts:
    """What happened while these were the device's counts.

    A launch is an operation on the device's tensors that is no view, allocation or transfer. CUDA
    takes one kernel for it or a few, so the number is a lower bound.

    Attributes:
        operators: launches by operation.
        to_device, to_host: copies between host and device by line; the host waits for both, as its
            memory is not pinned.
        waits: results that the host needs before it can go on, by line: ``item()``, ``nonzero()``,
            indexing by truth values, an explicit synchronisation.
    """

    operators: Counter[str] = field(default_factory=Counter)
    to_device: Counter[str] = field(default_factory=Counter)
    to_host: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    @property
    def launches(self) -> int:
        return self.operators.total()


def line() -> str:
    """``safs/file.py:12``: where the innermost frame in ``safs`` or ``pipelines`` is.

    Without any, the innermost in ``tests``; else ``elsewhere``.
    """
    tested = "elsewhere"
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_CODE):
            return _place(name, frame.f_lineno)
        if tested == "elsewhere" and name.startswith(_TESTS) and name not in _OURS:
            tested = _place(name, frame.f_lineno)
        frame = frame.f_back
    return tested


def _place(name: str, number: int) -> str:
    return f"{Path(name).relative_to(ROOT)}:{number}"
