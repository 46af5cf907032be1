"""``torch.cuda`` as if there were devices, and everything as it was afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.optim import optimizer

from simulated import graphs, tensor
from simulated.counts import Counts, line
from simulated.tensor import Dispatch, Ledger, SimulatedTensor

NAME = "Simulated GPU"
_KEPT = {
    "safs.training.optimizers": ("_on_device",),
    "pipelines.tasks.shared": ("_pruned_of", "_fold_of"),
}
"""Functions that keep tensors for a device by its name, which several in a row may have."""


class Simulated:
    """The devices that are installed.

    Attributes:
        device: the first one.
        current: the number that ``torch.cuda.set_device`` chose.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.current = ledger, 0
        self.device = torch.device("cuda", 0)

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Fresh counts of what happens meanwhile; it counts in those before, too."""
        before, self.ledger.counts = self.ledger.counts, Counts()
        try:
            yield self.ledger.counts
        finally:
            for name, counter in vars(self.ledger.counts).items():
                getattr(before, name).update(counter)
            self.ledger.counts = before

    @contextmanager
    def thread(self) -> Iterator[None]:
        """Let the calling thread use the devices."""
        with Dispatch():
            yield


@contextmanager
def installed(devices: int = 1) -> Iterator[Simulated]:
    """Simulated CUDA devices for the calling thread.

    Afterwards, also after an exception, functions and settings of torch are what they were:
    ``torch.cuda``, ``Tensor.to``, autocast, deterministic algorithms, TF32, number of threads.
    """
    _forget()
    with ExitStack() as stack:
        simulated = Simulated(stack.enter_context(tensor.opened(devices)))
        stack.callback(_forget)
        stack.enter_context(_settings())
        for owner, name, value in _replacements(simulated):
            if hasattr(owner, name):  # not every version of torch has them all
                stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(simulated.thread())
        yield simulated


def _forget() -> None:
    for module, names in _KEPT.items():
        for name in names if module in sys.modules else ():
            getattr(sys.modules[module], name).cache_clear()


def _replacements(simulated: Simulated) -> list[tuple[Any, str, Any]]:
    """Owner, name and stand-in of all that torch would ask a driver for."""
    ledger = simulated.ledger
    foreach = [*optimizer._foreach_supported_types, SimulatedTensor]
    return [
        *((torch.cuda, name, value) for name, value in _about_devices(simulated).items()),
        *((torch.cuda, name, value) for name, value in _random(simulated).items()),
        *((torch.cuda, name, value) for name, value in graphs.replacements(ledger).items()),
        (torch.accelerator, "is_available", lambda: False),  # it has no streams
        (torch, "autocast", _Autocast),
        (torch.Tensor, "to", tensor.host_to),
        (torch.Tensor, "cuda", tensor.host_cuda),
        (optimizer, "_foreach_supported_types", foreach),
    ]


def _about_devices(simulated: Simulated) -> dict[str, Callable[..., Any]]:
    ledger = simulated.ledger

    def memory(device: Any) -> tensor.Memory:
        return ledger.memory[simulated.current if device is None else _number(device)]

    def reset_peak(device: Any = None) -> None:
        memory(device).peak = memory(device).now

    def synchronize(device: Any = None) -> None:
        if ledger.capture is not None:
            ledger.capture.refuse("a synchronisation")
        ledger.counts.waits[line()] += 1

    def set_device(device: Any) -> None:
        exchange(_number(device))

    def exchange(number: int) -> int:
        """What ``torch.cuda.device`` does on its way in and out."""
        before = simulated.current
        simulated.current = before if number < 0 else number
        return before

    return {
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "device_count": lambda: len(ledger.memory),
        "current_device": lambda: simulated.current,
        "set_device": set_device,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(
            name=NAME, major=9, minor=0, multi_processor_count=1, total_memory=2**36
        ),
        "synchronize": synchronize,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: memory(device).now,
        "max_memory_allocated": lambda device=None: memory(device).peak,
        "reset_peak_memory_stats": reset_peak,
    }


def _random(simulated: Simulated) -> dict[str, Any]:
    generators = simulated.ledger.generators

    def own(device: Any) -> torch.Generator:
        index = device if isinstance(device, int) else torch.device(device).index
        return generators[simulated.current if index is None else index]

    def seed_all(seed: int) -> None:
        for generator in generators:
            generator.manual_seed(seed)

    return {
        "default_generators": generators,
        "manual_seed": lambda seed: own("cuda").manual_seed(seed),
        "manual_seed_all": seed_all,
        "get_rng_state": lambda device="cuda": own(device).get_state(),
        "set_rng_state": lambda state, device="cuda": own(device).set_state(state),
    }


def _number(device: Any) -> int:
    """A device's number; 0 where it has none."""
    return device if isinstance(device, int) else torch.device(device).index or 0


class _Autocast(torch.autocast):
    """The CPU's autocast for the device, whose tensors are CPU tensors to torch's core."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextmanager
def _settings() -> Iterator[None]:
    """Settings of the process come back; modules get new parameters where they are moved."""
    future = torch.__future__
    overwrite = future.get_overwrite_module_params_on_conversion()
    deterministic = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    rounding = [(*where, _value(*where)) for where in _rounding()]
    future.set_overwrite_module_params_on_conversion(True)
    try:
        with mock.patch.dict(os.environ):
            yield
    finally:
        future.set_overwrite_module_params_on_conversion(overwrite)
        torch.use_deterministic_algorithms(deterministic, warn_only=lenient)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
        for place, name, value in rounding:
            if value is not None:
                setattr(place, name, value)


def _rounding() -> list[tuple[Any, str]]:
    """Where torch keeps whether products and convolutions may round to TF32.

    First the older names, which also set what stands behind the newer ones.
    """
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    places = [(cuda.matmul, "allow_tf32"), (cudnn, "allow_tf32")]
    if hasattr(cuda.matmul, "fp32_precision"):
        newer = (torch.backends, cuda.matmul, cudnn.conv, cudnn.rnn)
        places += [(place, "fp32_precision") for place in newer]
    return places


def _value(place: Any, name: str) -> Any:
    """A setting, or None where torch refuses the older name because the newer one was used."""
    with suppress(RuntimeError):
        return getattr(place, name)
    return None
