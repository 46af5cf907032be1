"""The tensors of the simulated device and the dispatch of every operation on them.

To torch's C++ core they are CPU tensors, as its autograd has no thread for a device without a
driver; Python sees CUDA tensors. Two things follow. Autocast and memory formats are the CPU's, and
a gradient does not travel back through a copy between host and device.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from simulated import rules
from simulated.counts import Counts, line
from simulated.graphs import Graph

_MODE_KEY = torch._C._TorchDispatchModeKey.FAKE
_CPU = torch.device("cpu")
Result = Any


class _Thread(threading.local):
    leaving = False


_thread = _Thread()


class DeviceGenerator(torch.Generator):
    """A device's own stream of random numbers: that of the CPU with the same seed."""

    index: int

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.index)


class Memory:
    """Bytes of the device's tensors, each piece of memory once however many views it has."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.views: Counter[int] = Counter()

    def add(self, tensor: SimulatedTensor) -> None:
        """Count a new tensor until nothing refers to it."""
        storage = tensor.numbers.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self.views[key]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.views[key] += 1
        weakref.finalize(tensor, self._remove, key, size).atexit = False

    def _remove(self, key: int, size: int) -> None:
        self.views[key] -= 1
        if not self.views[key]:
            del self.views[key]
            self.now -= size


class Ledger:
    """What the devices have done and hold, as long as one is installed.

    Attributes:
        capture: the graph that records what is done, instead of doing it; None for none.
    """

    def __init__(self, devices: int) -> None:
        self.counts = Counts()
        self.capture: Graph | None = None
        self.memory = [Memory() for _ in range(devices)]
        self.generators = tuple(DeviceGenerator() for _ in range(devices))
        for index, generator in enumerate(self.generators):
            generator.index = index


_open: list[Ledger] = []


def ledger() -> Ledger:
    """That of the devices which are installed.

    Raises:
        RuntimeError: none is; a tensor has outlived its device.
    """
    if not _open:
        raise RuntimeError("no simulated CUDA device is installed")
    return _open[0]


@contextmanager
def opened(devices: int) -> Iterator[Ledger]:
    """A ledger for as many devices; there is one at a time."""
    if _open:
        raise RuntimeError("a simulated CUDA device is installed already")
    _open.append(Ledger(devices))
    try:
        yield _open[0]
    finally:
        _open.clear()


class SimulatedTensor(torch.Tensor):
    """A tensor of the device.

    Attributes:
        numbers: what it holds, on the CPU.
        place: the device it says it is on.
    """

    numbers: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, numbers: Tensor, place: torch.device) -> SimulatedTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device="cpu",
        )
        tensor.numbers, tensor.place = numbers, place
        ledger().memory[place.index].add(tensor)
        return tensor

    def __init__(self, numbers: Tensor, place: torch.device) -> None:
        super().__init__()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Result:
        return dispatch(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:
        return self.place

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:
        """Refer to the numbers of another; what it held counts as memory until it dies."""
        alike = isinstance(new, SimulatedTensor) and new.place == self.place
        if not alike or (new.shape, new.stride(), new.dtype) != (
            self.shape, self.stride(), self.dtype,
        ):  # fmt: skip
            raise NotImplementedError("only data of the same device, shape, strides and dtype")
        self.numbers = new.numbers
        ledger().memory[self.place.index].add(self)

    def get_device(self) -> int:
        return self.place.index

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, copy, layout = _conversion(args, kwargs)
        device, dtype = full(device) or self.place, dtype or self.dtype
        as_wanted = layout is None or self.is_contiguous(memory_format=layout)
        if (device, dtype) == (self.place, self.dtype) and as_wanted and not copy:
            return self
        more = {} if layout is None else {"memory_format": layout}
        with _leaving(device.type == "cpu"):
            return torch.ops.aten._to_copy.default(self, dtype=dtype, device=device, **more)

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.to("cpu")

    def cuda(self, device: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        return self.to(_cuda(device))

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other)

    def new_tensor(self, data: Any, **kwargs: Any) -> Tensor:
        return torch.tensor(data, **({"dtype": self.dtype, "device": self.place} | kwargs))

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __repr__(self, **kwargs: Any) -> str:
        return f"tensor({self.numbers.tolist()}, device='{self.place}')"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As what ``torch.save`` writes is read with ``map_location="cpu"``."""
        copy = self.detach().cpu()
        if isinstance(self, nn.Parameter):
            copy = nn.Parameter(copy, self.requires_grad)
        return copy.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user support deepcopy")
        copy: Tensor = self.detach().clone()
        if isinstance(self, nn.Parameter):
            copy = nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy.requires_grad_(self.requires_grad)
        return copy


class Dispatch(TorchDispatchMode):
    """Sends every operation of a thread here, also those that only ask for the device.

    Under its key torch does not look for a driver.
    """

    _mode_key = _MODE_KEY

    def __enter__(self) -> Dispatch:
        self.lifting = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor() then moves what it made here
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self.lifting)

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Result:
        return dispatch(func, args, kwargs or {})


def full(device: Any) -> torch.device | None:
    """The device with its number: ``cuda`` is ``cuda:0``."""
    if device is None:
        return None
    found = torch.device(device)
    return torch.device("cuda", 0) if found == torch.device("cuda") else found


def _cuda(device: Any) -> torch.device:
    found = torch.device("cuda", device) if isinstance(device, int) else full(device)
    return found or torch.device("cuda", 0)


def host_to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to`` of a CPU tensor, whose C++ code knows no simulated device."""
    other = next((a for a in args if isinstance(a, Tensor)), kwargs.pop("other", None))
    if other is not None:
        rest = [a for a in args if a is not other]
        return _PLAIN_TO(tensor, other.device, other.dtype, *rest, **kwargs)
    named = [full(a) if isinstance(a, str | torch.device) else a for a in args]
    named = [torch.device("cuda", a) if type(a) is int else a for a in named]
    if kwargs.get("device") is not None:
        kwargs["device"] = full(kwargs["device"])
    return _PLAIN_TO(tensor, *named, **kwargs)


def host_cuda(tensor: Tensor, device: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.cuda`` of a CPU tensor."""
    return host_to(tensor, _cuda(device))


_PLAIN_TO = torch.Tensor.to


def _conversion(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, torch.dtype | None, bool, torch.memory_format | None]:
    """Device, dtype, copy and memory format of the arguments of ``Tensor.to``."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for argument in args:
        if isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, str | torch.device):
            device = argument
        elif isinstance(argument, Tensor):
            device, dtype = argument.device, argument.dtype
    layout = kwargs.get("memory_format")
    flags = [argument for argument in args if isinstance(argument, bool)]
    copy = kwargs.get("copy", len(flags) > 1 and flags[1])
    return device, dtype, copy, None if layout is torch.preserve_format else layout


class Operands(NamedTuple):
    """What of an operation's arguments has a device."""

    ours: list[SimulatedTensor]
    host: list[Tensor]
    generators: list[torch.Generator]


def dispatch(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
    """Do one operation as the devices of its operands would."""
    found = Operands([], [], [])
    _sort(args, found)
    _sort(kwargs.values(), found)
    asked = full(kwargs.get("device"))
    if found.ours and asked == _CPU and not _thread.leaving:
        asked = None  # torch's core has copied it from the options of an operand
    on_device = bool(found.ours) if asked is None else asked.type == "cuda"
    _check_generators(found.generators, "cuda" if on_device else "cpu")
    if not found.ours and not on_device:
        return func(*args, **kwargs)
    op = rules.of(func)
    _check(op, args, found)
    _count(op, args, asked)
    place = asked if asked is not None and on_device else found.ours[0].place
    draws = on_device and op.draws and not found.generators
    run = partial(_run, func, _numbers(args), _named(kwargs), place if draws else None)
    if not on_device:
        return run()
    result = run() if ledger().capture is None else _recorded(run, found, op)
    if op.in_place:
        return args[0]
    wrapped = _wrapped(result, place)
    if found.ours and op.shares:
        return return_and_correct_aliasing(func, args, kwargs, wrapped)
    return wrapped


def _sort(arguments: Iterable[Any], found: Operands) -> None:
    """Add what has a device to ``found``, however deep in lists it lies."""
    for argument in arguments:
        kind = type(argument)
        if kind is SimulatedTensor:
            found.ours.append(argument)
        elif kind is list or kind is tuple:
            _sort(argument, found)
        elif isinstance(argument, Tensor):
            found.host.append(argument)
        elif isinstance(argument, torch.Generator):
            found.generators.append(argument)


def _run(
    func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], drawing: torch.device | None
) -> Any:
    """The operation on the CPU, with the random numbers of a device where one is named."""
    if drawing is None:
        return func(*args, **kwargs)
    with _drawing(drawing):
        return func(*args, **kwargs)


def _recorded(run: Callable[[], Any], found: Operands, op: rules.Operation) -> Any:
    """The result of an operation, which the capture that goes on repeats in every replay."""
    capture = ledger().capture
    assert capture is not None
    capture.reads([tensor.numbers for tensor in found.ours])
    result = run()
    capture.add(run, result, op.launches)
    return result


def _named(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the CPU."""
    named = {name: _numbers(value) for name, value in kwargs.items()}
    device = named.get("device")
    if device is not None and device.type != "meta":
        named["device"] = _CPU
    return named


def _check(op: rules.Operation, args: tuple[Any, ...], found: Operands) -> None:
    if len(found.ours) > 1:
        rules.check_one_device(op, {tensor.place for tensor in found.ours})
    if found.ours:
        rules.check_operands(op, args, found.host)
        rules.check_deterministic(op, found.ours[0])


def _check_generators(given: list[torch.Generator], wanted: str) -> None:
    """Raise RuntimeError where a generator is of another device.

    Torch hands one on as another object of the same address.
    """
    for generator in given:
        own = any(generator._cdata == other._cdata for other in ledger().generators)
        if own != (wanted == "cuda"):
            kind = "cuda" if own else "cpu"
            raise RuntimeError(
                f"Expected a '{wanted}' device type for generator but found '{kind}'"
            )


def _count(op: rules.Operation, args: tuple[Any, ...], asked: torch.device | None) -> None:
    """Count it; while a graph is captured, which launches nothing, refuse what cannot be in one."""
    counts, capture = ledger().counts, ledger().capture
    moved, waits = _moved(op.name, args, asked), rules.waits(op.name, args)
    if capture is not None:
        if moved is not None or waits:
            capture.refuse(op.name)
        return
    if moved is not None:
        moved[line()] += 1
    if op.launches and (moved is None or op.name not in rules.TRANSFERS):
        counts.operators[op.name] += rules.launches(op, args)
    if waits:
        counts.waits[line()] += 1


def _moved(name: str, args: tuple[Any, ...], asked: torch.device | None) -> Counter[str] | None:
    """Where a transfer counts; None for what stays on its side."""
    if name == "_to_copy":
        source, target = not _on_host(args[0]), asked is None or asked.type == "cuda"
    elif name in rules.TRANSFERS:
        to, from_ = (given if isinstance(given, Tensor) else given[0] for given in args[:2])
        source, target = not _on_host(from_), not _on_host(to)
    elif name in rules.INDEXING:
        source, target = False, any(_on_host(index) for index in args[1])
    else:
        return None
    if source == target:
        return None
    return ledger().counts.to_host if source else ledger().counts.to_device


def _on_host(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, SimulatedTensor)


def _wrapped(x: Any, place: torch.device) -> Any:
    """The tensors of a result as tensors of the device."""
    if isinstance(x, list | tuple):
        return type(x)(_wrapped(part, place) for part in x)
    return SimulatedTensor(x, place) if _on_host(x) else x


def _numbers(x: Any) -> Any:
    """Arguments with CPU tensors in the place of the device's.

    A capture keeps the host's as they are now.
    """
    kind = type(x)
    if kind is SimulatedTensor:
        return x.numbers
    if kind is list or kind is tuple:
        return kind(map(_numbers, x))
    if isinstance(x, Tensor) and ledger().capture is not None:
        return x.clone()
    return x


@contextmanager
def _leaving(wanted: bool) -> Iterator[None]:
    """Whether results go to the CPU where an operation names it."""
    _thread.leaving = wanted
    try:
        yield
    finally:
        _thread.leaving = False


@contextmanager
def _drawing(place: torch.device) -> Iterator[None]:
    """Random numbers come from the device's own stream."""
    generator, host = ledger().generators[place.index], torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(host)
