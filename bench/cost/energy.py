"""Energy counters of the machine, where it lets anybody read them.

Linux shows those of Intel and AMD packages under ``/sys/class/powercap`` (mostly to root only),
NVIDIA's driver those of its devices through the package nvidia-ml-py. A virtual machine usually
shows neither, and then energy is not measured, never 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Joules between two readings.

    Attributes:
        source: which counters are read, for people; "not measured" where there are none.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        found = sorted(powercap.glob("*-rapl:*")) if powercap.is_dir() else []
        packages = [place for place in found if _text(place / "name").startswith("package-")]
        self._packages = [place for place in packages if _value(place / "energy_uj") is not None]
        self._devices = _nvml()
        sources = (("RAPL", self._packages), ("NVML", self._devices))
        named = [name for name, counters in sources if counters]
        self.source = " and ".join(named) or "not measured"
        self._start: list[float] = self._read()

    def joules(self) -> float | None:
        """Energy since the start; None where nothing can be read."""
        now = self._read()
        if not now:
            return None
        spans = [_span(place) for place in self._packages] + [0.0] * len(self._devices)
        used = zip(self._start, now, spans, strict=True)
        return sum(b - a if b >= a else b - a + span for a, b, span in used)

    def _read(self) -> list[float]:
        packages = [(_value(place / "energy_uj") or 0.0) / 1e6 for place in self._packages]
        return packages + [read() for read in self._devices]


def _text(path: Path) -> str:
    """The content of a file; empty where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _value(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _span(place: Path) -> float:
    """Where a counter starts again from 0, in joules."""
    return (_value(place / "max_energy_range_uj") or 0.0) / 1e6


def _nvml() -> list[Callable[[], float]]:
    """Counters of the GPUs of this process; none if one of them cannot be read."""
    try:
        import pynvml

        pynvml.nvmlInit()
        devices = [partial(_joules, pynvml, handle) for handle in _visible(pynvml)]
        for read in devices:
            read()
    except Exception:  # no package, no driver, or a device that does not count
        return []
    return [*devices]


def _visible(nvml: Any) -> list[Any]:
    """Handles of the GPUs that CUDA_VISIBLE_DEVICES leaves to this process; all where it is unset.

    It holds indices (taken in NVML's order, that of the PCI bus) or UUIDs, also shortened, and ends
    before the first that no GPU has, as in CUDA. So a slice of a GPU (``MIG-...``) is not metered:
    only the whole GPU has a counter.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return handles
    known = [(str(i), nvml.nvmlDeviceGetUUID(handle), handle) for i, handle in enumerate(handles)]
    found: list[Any] = []
    for name in map(str.strip, told.split(",")):
        named = [h for i, uuid, h in known if name == i or (name and uuid.startswith(name))]
        if len(named) != 1:
            break
        found += named
    return found


def _joules(nvml: Any, handle: Any) -> float:
    """The total energy of one NVIDIA device since its driver was loaded."""
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
