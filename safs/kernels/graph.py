"""From a traced network to a list of layers that the kernels know.

Everything between two convolutions that can be fused becomes one :class:`Stage`: batch norm, the
addition of a residual, an operator, a 2x2 maximum.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from safs.kernels.build import Unsupported
from safs.slots import Slot

Shape = tuple[int, int, int]


@dataclass(eq=False)
class Value:
    """A feature map between layers.

    Attributes:
        shape: channels, height, width.
        base: of a flattened map, the map itself; of phase planes None.
        need: bool ``[C]``, the channels that some output of the network depends on.
        pad: width of the zero border that the readers want.
    """

    shape: Shape
    base: Value | None = None
    need: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    pad: int = 0

    def __post_init__(self) -> None:
        self.need = np.zeros(self.shape[0], bool)

    def require(self, channels: np.ndarray) -> None:
        """Note that a reader depends on ``channels``."""
        self.need |= channels
        if self.base is not None:
            self.base.require(np.any(channels.reshape(self.base.shape[0], -1), axis=1))


@dataclass(eq=False)
class Input:
    """The images."""

    out: Value


@dataclass(eq=False)
class Conv:
    """A convolution of stride 1 (others have phase planes before them) or a linear layer.

    Attributes:
        name: of the module.
        weight: shape ``(O, C / groups, kh, kw)``.
        step: the stride that the phase planes of ``x`` stand for.
    """

    name: str
    module: nn.Module
    weight: tuple[int, int, int, int]
    x: Value
    z: Value
    groups: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    step: int = 1


@dataclass(eq=False)
class Stage:
    """``y = pool(f(norm(z) + residual))``; ``conv`` is None where z is another layer's output."""

    z: Value
    conv: Conv | None = None
    norm: tuple[str, nn.BatchNorm2d] | None = None
    residual: Value | None = None
    slot: tuple[str, Slot] | None = None
    operator: str | None = None
    pool: bool = False
    y: Value | None = None

    @property
    def active(self) -> bool:
        return self.operator is not None


@dataclass(eq=False)
class Phases:
    """The ``step`` x ``step`` planes of every channel."""

    x: Value
    y: Value
    step: int


@dataclass(eq=False)
class Pooling:
    """Windows per output row and column, ends not included; averages or maxima."""

    x: Value
    y: Value
    rows: list[tuple[int, int]]
    columns: list[tuple[int, int]]
    average: bool
    divisor: int | None = None


@dataclass(eq=False)
class Gate:
    """``y = x * s`` with one s per channel."""

    x: Value
    s: Value
    y: Value


GraphLayer = Input | Conv | Stage | Phases | Pooling | Gate


@dataclass
class LayerList:
    """The layers in order of execution, and the last linear layer, whose z are the logits."""

    layers: list[GraphLayer]
    head: Conv


def read(network: fx.GraphModule, shape: Shape) -> LayerList:
    """Read a traced network.

    Raises:
        Unsupported: it has a layer that the kernels do not know.
    """
    return _Reader(network, shape).network()


def structure(layers: LayerList) -> tuple[Any, ...]:
    """All that a plan is made from, but for the mask: equal where one plan serves both networks.

    Operators of slots are no part of it.
    """
    numbers: dict[Value | None, int] = {}

    def told(part: Any) -> Any:
        match part:
            case Value():
                return numbers.setdefault(part, len(numbers)), part.shape, told(part.base)
            case Conv():
                return part.name
            case Slot():
                return part.channels
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return part.eps, part.momentum
            case nn.Module():
                return part.bias is not None
            case tuple() | list():
                return tuple(map(told, part))
        return part

    def fields(layer: GraphLayer) -> tuple[Any, ...]:
        slotted = isinstance(layer, Stage) and layer.slot is not None
        return type(layer), *(
            (name, told(part))
            for name, part in vars(layer).items()
            if not (slotted and name == "operator")
        )

    return tuple(map(fields, layers.layers)), layers.head.name


def phase_planes(shape: Shape, step: int) -> Shape:
    """Shape of the ``step`` x ``step`` planes of every channel."""
    channels, height, width = shape
    return channels * step**2, -(-height // step), -(-width // step)


def convolution(name: str, module: nn.Conv2d, shape: Shape, planes: Callable[[int], Value]) -> Conv:
    """A convolution.

    Args:
        name: of the module.
        module: the convolution.
        shape: of its input.
        planes: gives the input's phase planes for a stride; the input itself for stride 1.

    Raises:
        Unsupported: the kernels do not know its padding or stride.
    """
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise Unsupported(f"sparse kernels: padding of {name}")
    if module.stride[0] != module.stride[1]:
        raise Unsupported(f"sparse kernels: {name} has stride {module.stride}")
    step, padding = module.stride[0], (int(module.padding[0]), int(module.padding[1]))
    height, width = (
        (size + 2 * p - d * (k - 1) - 1) // step + 1
        for size, p, d, k in zip(
            shape[1:], padding, module.dilation, module.kernel_size, strict=True
        )
    )
    if min(height, width) < 1:
        raise Unsupported(f"sparse kernels: the input of {name} is smaller than its kernel")
    o, channels, kh, kw = module.weight.shape
    return Conv(
        name, module, (o, channels, kh, kw), planes(step), Value((o, height, width)),
        module.groups, padding, (module.dilation[0], module.dilation[1]), step,
    )  # fmt: skip


def linear(name: str, module: nn.Linear, x: Value) -> Conv:
    """A linear layer, which is a convolution of maps of one pixel.

    Raises:
        Unsupported: its input ``x`` is another map.
    """
    if x.shape != (module.in_features, 1, 1):
        raise Unsupported(f"sparse kernels: the input of {name} is not flat")
    shape = (module.out_features, module.in_features, 1, 1)
    return Conv(name, module, shape, x, Value((module.out_features, 1, 1)))


class _Reader:
    def __init__(self, network: fx.GraphModule, shape: Shape) -> None:
        self.modules = dict(network.named_modules())
        self.layers: list[GraphLayer] = []
        self.phases: dict[tuple[Value, int], Value] = {}
        self.values: dict[fx.Node, Value | Stage] = {}
        self.used = set[str]()
        self.head: Conv | None = None
        for node in network.graph.nodes:
            if node.op == "placeholder":
                value = Value(shape)
                self.layers.append(Input(value))
                self.values[node] = value
            elif node.op == "output":
                self._finish(node)
            else:
                self.values[node] = self._read(node)

    def network(self) -> LayerList:
        if self.head is None:
            raise Unsupported("sparse kernels: the network does not end in a linear layer")
        return LayerList(self.layers, self.head)

    # -- values --------------------------------------------------------------------------------
    def _value(self, node: Any) -> Value:
        """The finished map of a node; a stage still open is closed."""
        if not isinstance(node, fx.Node) or node not in self.values:
            raise Unsupported(f"sparse kernels: {node} is no feature map")
        found = self.values[node]
        return found if isinstance(found, Value) else self._close(found)

    def _close(self, stage: Stage) -> Value:
        if stage.y is None:
            channels, height, width = stage.z.shape
            if stage.pool:
                height, width = height // 2, width // 2
            stage.y = Value((channels, height, width))
            stage.operator = stage.operator or "identity"
            self.layers.append(stage)
        return stage.y

    def _open(self, node: fx.Node) -> Stage | None:
        """The stage that a node's only reader may add to, or None."""
        found = self.values[node]
        if isinstance(found, Stage) and found.y is None and len(node.users) == 1:
            return found
        return None

    def _stage(self, node: Any) -> Stage:
        """A stage without operator on top of a node: the open one, or a new one."""
        stage = self._open(node)
        if stage is None or stage.active or stage.pool:
            stage = Stage(self._value(node))
        return stage

    def _finish(self, node: fx.Node) -> None:
        last = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        plain = isinstance(last, Stage) and last.y is None and not last.active
        if not (plain and isinstance(last, Stage) and last.conv and last.z.shape[1:] == (1, 1)):
            raise Unsupported("sparse kernels: the network does not end in a linear layer")
        if last.norm or last.residual:
            raise Unsupported("sparse kernels: the network does not end in a linear layer")
        self.head = last.conv

    # -- layers --------------------------------------------------------------------------------
    def _once(self, name: str, module: nn.Module) -> None:
        """Refuse a second use of parameters: each use would write its own gradient over theirs."""
        if name in self.used and next(module.parameters(), None) is not None:
            raise Unsupported(f"sparse kernels: {name} is used twice")
        self.used.add(name)

    def _read(self, node: fx.Node) -> Value | Stage:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            self._once(str(node.target), module)
            reader = _MODULES.get(type(module))  # a subclass may compute something else
            if reader is not None:
                return reader(self, node, str(node.target), module)
            raise Unsupported(f"sparse kernels: layer {node.target} is a {type(module).__name__}")
        function = _FUNCTIONS.get(node.target)
        if function is None:
            name = getattr(node.target, "__name__", node.target)
            raise Unsupported(f"sparse kernels: {name} (node {node.name}) is not known")
        return function(self, node)

    def same(self, node: fx.Node, *_: Any) -> Value | Stage:
        """A layer that changes nothing."""
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if len(source.users) > 1:
            return self._value(source)
        return self.values[source]

    def dropout(self, node: fx.Node, name: str, module: nn.Module) -> Value | Stage:
        if getattr(module, "p", 0):
            raise Unsupported(f"sparse kernels: {name} drops at random")
        return self.same(node)

    def conv(self, node: fx.Node, name: str, module: nn.Module) -> Stage:
        assert isinstance(module, nn.Conv2d)
        x = self._value(node.args[0])
        conv = convolution(name, module, x.shape, lambda step: self._planes(x, step))
        self.layers.append(conv)
        return Stage(conv.z, conv)

    def _planes(self, x: Value, step: int) -> Value:
        if step == 1:
            return x
        if (x, step) not in self.phases:
            planes = Value(phase_planes(x.shape, step))
            self.layers.append(Phases(x, planes, step))
            self.phases[x, step] = planes
        return self.phases[x, step]

    def linear(self, node: fx.Node, name: str, module: nn.Module) -> Stage:
        assert isinstance(module, nn.Linear)
        conv = linear(name, module, self._value(node.args[0]))
        self.layers.append(conv)
        return Stage(conv.z, conv)

    def norm(self, node: fx.Node, name: str, module: nn.Module) -> Stage:
        assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)
        source = node.args[0]
        assert isinstance(source, fx.Node)
        stage = self._open(source)
        fits = stage is not None and stage.conv and not stage.norm and not stage.residual
        if stage is None or not fits or stage.active or stage.pool:
            raise Unsupported(f"sparse kernels: {name} does not follow a convolution")
        if not (module.affine and module.track_running_stats and module.momentum is not None):
            raise Unsupported(f"sparse kernels: {name} has no parameters or running statistics")
        stage.norm = (name, module)  # type: ignore[assignment]
        return stage

    def slot(self, node: fx.Node, name: str, module: nn.Module) -> Stage:
        assert isinstance(module, Slot)
        stage = self._stage(node.args[0])
        stage.slot, stage.operator = (name, module), module.operator
        return stage

    def sigmoid(self, node: fx.Node, *_: Any) -> Stage:
        stage = self._stage(node.args[0])
        stage.operator = "sigmoid"
        return stage

    def add(self, node: fx.Node, *_: Any) -> Stage:
        a, b = node.args[0], node.args[1]
        if node.kwargs or not isinstance(a, fx.Node) or not isinstance(b, fx.Node):
            raise Unsupported(f"sparse kernels: {node.name} does not add two feature maps")
        for main, other in ((a, b), (b, a)):
            stage = self._open(main) if main is not other else None
            if stage is not None and not stage.active and not stage.residual and not stage.pool:
                break
        else:
            main, other = a, b
            stage = Stage(self._value(a))
        residual = self._value(other)
        if residual.shape != stage.z.shape:
            raise Unsupported(f"sparse kernels: {node.name} adds maps of different shapes")
        stage.residual = residual
        return stage

    def mul(self, node: fx.Node, *_: Any) -> Value:
        if len(node.args) != 2 or not all(isinstance(a, fx.Node) for a in node.args):
            raise Unsupported(f"sparse kernels: {node.name} does not multiply two feature maps")
        x, s = (self._value(a) for a in node.args)
        if s.shape[1:] != (1, 1):
            x, s = s, x
        if s.shape[1:] != (1, 1) or x.shape[0] != s.shape[0]:
            raise Unsupported(f"sparse kernels: {node.name} is no gate of one number per channel")
        gate = Gate(x, s, Value(x.shape))
        self.layers.append(gate)
        return gate.y

    def flatten(self, node: fx.Node, *rest: Any) -> Value:
        x = self._value(node.args[0])
        module = rest[1] if rest else None
        start = module.start_dim if module else _argument(node, 1, "start_dim", 0)
        if start != 1 or (module.end_dim if module else _argument(node, 2, "end_dim", -1)) != -1:
            raise Unsupported(f"sparse kernels: {node.name} does not flatten to one dimension")
        if x.shape[1:] == (1, 1):
            return x
        return Value((math.prod(x.shape), 1, 1), base=x)

    def max_pool(self, node: fx.Node, name: str, module: nn.Module) -> Value | Stage:
        assert isinstance(module, nn.MaxPool2d)
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        padding = _pair(module.padding)
        if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
            raise Unsupported(f"sparse kernels: options of {name}")
        source = node.args[0]
        assert isinstance(source, fx.Node)
        stage = self._open(source)
        if stage is not None and (kernel, stride, padding) == ((2, 2), (2, 2), (0, 0)):
            even = stage.z.shape[1] % 2 == 0 and stage.z.shape[2] % 2 == 0
            if stage.conv and stage.active and not stage.residual and not stage.pool and even:
                stage.pool = True
                return stage
        return self._pool(node, kernel, stride, padding, average=False)

    def avg_pool(self, node: fx.Node, name: str, module: nn.Module) -> Value:
        assert isinstance(module, nn.AvgPool2d)
        padding = _pair(module.padding)
        if module.ceil_mode or module.divisor_override or padding != (0, 0):
            raise Unsupported(f"sparse kernels: options of {name}")
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        return self._pool(node, kernel, stride, padding, average=True)

    def _pool(
        self,
        node: fx.Node,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        average: bool,
    ) -> Value:
        x = self._value(node.args[0])
        rows, columns = (
            [
                (max(0, i * s - p), min(size, i * s - p + k))
                for i in range((size + 2 * p - k) // s + 1)
            ]
            for size, k, s, p in zip(x.shape[1:], kernel, stride, padding, strict=True)
        )
        return self._windows(x, rows, columns, average)

    def adaptive(self, node: fx.Node, name: str, module: nn.Module) -> Value:
        assert isinstance(module, nn.AdaptiveAvgPool2d)
        return self._adaptive(node, module.output_size)

    def adaptive_function(self, node: fx.Node, *_: Any) -> Value:
        return self._adaptive(node, _argument(node, 1, "output_size", None))

    def _adaptive(self, node: fx.Node, wanted: Any) -> Value:
        x = self._value(node.args[0])
        sizes = [given or size for given, size in zip(_pair(wanted), x.shape[1:], strict=True)]
        rows, columns = (
            [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
            for size, out in zip(x.shape[1:], sizes, strict=True)
        )
        return self._windows(x, rows, columns, average=True)

    def _windows(
        self,
        x: Value,
        rows: list[tuple[int, int]],
        columns: list[tuple[int, int]],
        average: bool,
    ) -> Value:
        if x.shape[1:] == (1, 1) and rows == columns == [(0, 1)]:
            return x
        pool = Pooling(x, Value((x.shape[0], len(rows), len(columns))), rows, columns, average)
        self.layers.append(pool)
        return pool.y


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if value is None or isinstance(value, int) else tuple(value)


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


_MODULES: dict[type[nn.Module], Callable[..., Value | Stage]] = {
    nn.Conv2d: _Reader.conv,
    nn.Linear: _Reader.linear,
    nn.BatchNorm2d: _Reader.norm,
    nn.BatchNorm1d: _Reader.norm,
    Slot: _Reader.slot,
    nn.Sigmoid: _Reader.sigmoid,
    nn.MaxPool2d: _Reader.max_pool,
    nn.AvgPool2d: _Reader.avg_pool,
    nn.AdaptiveAvgPool2d: _Reader.adaptive,
    nn.Flatten: _Reader.flatten,
    nn.Identity: _Reader.same,
    nn.Dropout: _Reader.dropout,
    nn.Dropout2d: _Reader.dropout,
    nn.Dropout3d: _Reader.dropout,
}

_FUNCTIONS: dict[Any, Callable[..., Value | Stage]] = {
    operator.add: _Reader.add,
    operator.iadd: _Reader.add,
    torch.add: _Reader.add,
    "add": _Reader.add,
    "add_": _Reader.add,
    operator.mul: _Reader.mul,
    operator.imul: _Reader.mul,
    torch.mul: _Reader.mul,
    torch.flatten: _Reader.flatten,
    "flatten": _Reader.flatten,
    torch.sigmoid: _Reader.sigmoid,
    functional.sigmoid: _Reader.sigmoid,
    "sigmoid": _Reader.sigmoid,
    functional.adaptive_avg_pool2d: _Reader.adaptive_function,
    "contiguous": _Reader.same,
}
