"""What a forward pass calls: its activations and what they gate, its weights, random numbers.

:class:`Watch` sees every function of torch that a pass calls, whoever calls it, and follows what
flows from one to the next. So it needs neither a graph nor the source of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

# Functions and methods go by their names, without underscores at either end. What is bounded gates
# where it multiplies; a sigmoid does so even where it has been added to something.
_SIGMOIDS = {"sigmoid", "hardsigmoid", "special_expit"}
_BOUNDED = _SIGMOIDS | {"tanh", "hardtanh", "relu6", "softsign", "clamp", "clip"}
_ACTIVATIONS = _BOUNDED | {
    "relu", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "silu", "mish", "gelu",
    "hardswish", "hardshrink", "softshrink", "tanhshrink", "softplus", "log_sigmoid", "threshold",
    "clamp_min",
}  # fmt: skip
_CLAMPS = {"clamp", "clip", "clamp_min"}
_HAVE_THEIR_OWN = {
    "glu", "lstm", "gru", "rnn_tanh", "rnn_relu",
    "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
}  # fmt: skip
_MATRIX_PRODUCTS = {
    "matmul", "rmatmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "einsum", "tensordot", "mv",
    "scaled_dot_product_attention",
}  # fmt: skip
_PRODUCTS = _MATRIX_PRODUCTS | {"mul", "rmul", "imul", "multiply", "addcmul", "lerp"}
_LAYERS = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "multi_head_attention_forward", *_HAVE_THEIR_OWN,
}  # fmt: skip
_NORMS = {"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"}
# What leaves the zeros of a weight where they are, up to its shape.
_KEEPS_ZEROS = {
    "get", "getitem", "view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze",
    "permute", "transpose", "t", "movedim", "swapaxes", "chunk", "split", "unbind", "expand",
    "expand_as", "repeat", "contiguous", "clone", "to", "type_as", "mul", "rmul", "multiply", "div",
    "truediv", "neg",
}  # fmt: skip


@dataclass(eq=False)
class Call:
    """One activation of a forward pass.

    Attributes:
        name: of the function, e.g. ``leaky_relu``.
        place: what called it: the name of a module, or a node of a graph.
        shape: of its input.
        of_data: whether its input depends on the input of the network.
        in_place: whether it changes its input.
        alone: whether it is all that its place computes.
        gates: whether its result, reshaped or not, multiplies another map.
    """

    name: str
    place: Any
    shape: tuple[int, ...]
    of_data: bool
    in_place: bool
    alone: bool = False
    gates: bool = False
    fed_by: frozenset[Call] = frozenset()

    def gate(self, gated: frozenset[Call]) -> None:
        """Note that it gates what ``gated`` are part of; so do activations that only shape it."""
        self.gates = True
        for call in self.fed_by - gated:
            call.gate(gated)


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from.

    Attributes:
        data: whether it depends on the input of the network.
        carried: activations whose values it has, perhaps reshaped or scaled.
        before: all activations that it depends on.
        weights: parameters that it is made of, where it is made of nothing else.
        exact: whether it is 0 where they are.
    """

    data: bool = False
    carried: frozenset[Call] = frozenset()
    before: frozenset[Call] = frozenset()
    weights: frozenset[str] = frozenset()
    exact: bool = True


@dataclass
class _Frame:
    place: Any
    x: Any
    calls: list[tuple[Call, Tensor, Any]] = field(default_factory=list)


class Watch(TorchFunctionMode):
    """What happens within ``with watch:``.

    Args:
        parameters: of the network that runs, by name.
        x: its input.

    Attributes:
        calls: the activations in their order.
        weights: parameters of two or more dimensions that a convolution, a matrix product or a
            recurrent layer takes, and whether it takes them as they are, up to zeros and shape.
        random: the place and name of the first function that drew random numbers, or None.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], x: Tensor) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.weights: dict[str, bool] = {}
        self.random: tuple[Any, str] | None = None
        self.frames = [_Frame("", x)]
        self.origins: Any = WeakTensorKeyDictionary()
        for name, parameter in parameters.items():
            if parameter.dim() > 1 and "bias" not in name:
                self.origins[parameter] = _Origin(weights=frozenset([name]))
        self.origins[x] = _Origin(data=True)
        self.generator = (
            torch.cuda.default_generators[x.device.index or 0]
            if x.is_cuda
            else torch.default_generator
        )

    def enter(self, place: Any, x: Any) -> None:
        """What is called from now on is called by ``place``, which was given ``x``."""
        self.frames.append(_Frame(place, x))

    def leave(self, y: Any) -> None:
        """The place that was entered last returns ``y``."""
        frame = self.frames.pop()
        if len(frame.calls) == 1:
            ((call, x, result),) = frame.calls
            call.alone = x is frame.x and result is y

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        origins = [self.origins.get(operand, _Origin()) for operand in operands]
        name = str(getattr(func, "__name__", func)).strip("_")
        drawn = self.generator.get_state()
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name == "setitem":
            results = [operands[0]]
        if not results:
            return result
        if self.random is None and not torch.equal(drawn, self.generator.get_state()):
            self.random = (self.frames[-1].place, name)
        origin = self._origin(name, origins)
        if operands and _is_activation(name, args, kwargs):
            origin = self._activation(name, operands[0], result, origin)
        for tensor in results:
            self.origins[tensor] = origin
        return result

    def _activation(self, name: str, x: Tensor, y: Any, origin: _Origin) -> _Origin:
        place, shape = self.frames[-1].place, tuple(x.shape)
        call = Call(name, place, shape, origin.data, y is x, fed_by=origin.carried)
        self.frames[-1].calls.append((call, x, y))
        self.calls.append(call)
        return _Origin(origin.data, frozenset([call]), origin.before | origin.carried)

    def _origin(self, name: str, origins: list[_Origin]) -> _Origin:
        """The origin of what a function makes of its operands."""
        data = [origin for origin in origins if origin.data]
        weights = frozenset[str]().union(*(o.weights for o in origins if not o.data))
        before = frozenset[Call]().union(*(o.carried | o.before for o in origins))
        if name in _LAYERS or (name in _MATRIX_PRODUCTS and data and weights):
            self._use(origins)
            return _Origin(bool(data), before=before)
        if not data:
            exact = name in _KEEPS_ZEROS and all(o.exact for o in origins)
            return _Origin(False, frozenset(), before, weights, exact)
        if name in _NORMS:
            return _Origin(True, before=before)
        if name in _PRODUCTS:
            _find_gates(data)
        carried = frozenset[Call]().union(*(o.carried for o in data))
        if len(data) > 1:
            carried = frozenset(call for call in carried if call.name in _SIGMOIDS)
        return _Origin(True, carried, before)

    def _use(self, origins: list[_Origin]) -> None:
        for origin in origins:
            for weight in origin.weights if not origin.data else ():
                self.weights[weight] = origin.exact and self.weights.get(weight, True)


def _is_activation(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is one; a clamp is one as ReLU, ReLU6 and the like, or between -1 and 1."""
    if name in _CLAMPS:
        low, high = (*args[1:], None, None)[:2]
        low, high = kwargs.get("min", low), kwargs.get("max", high)
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            return False
        return low == 0 or (low, high) == (-1, 1)
    return name in _ACTIVATIONS or name in _HAVE_THEIR_OWN


def _find_gates(factors: list[_Origin]) -> None:
    """Which activations gate in a product of maps.

    One whose result the other factor depends on is gated itself, as is a tanh times a sigmoid.
    """
    for factor in factors:
        for other in factors:
            gated = other.carried | other.before
            sigmoid = any(call.name in _SIGMOIDS for call in other.carried)
            for call in factor.carried - gated:
                if call.name in _SIGMOIDS or (call.name in _BOUNDED and not sigmoid):
                    call.gate(gated)


def watch(model: nn.Module, x: Tensor) -> tuple[Watch, Any]:
    """One pass of ``model`` as it stands, and what it returned; places are names of modules.

    Nothing of it is differentiated. Torch's fast path for attention is off, which hides functions.
    """
    seen = Watch(dict(model.named_parameters()), x)
    with undisturbed(), _announced(model, seen), seen:
        output = model(x)
    return seen, output


@contextmanager
def undisturbed() -> Iterator[None]:
    """No gradients, and none of torch's fast paths, which take several layers at once."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _announced(model: nn.Module, seen: Watch) -> Iterator[None]:
    """Every module says when its forward pass starts and ends."""

    def before(name: str) -> Callable[..., None]:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.enter(name, next(iter((*args, *kwargs.values())), None))

        return enter

    def after(_: nn.Module, args: Any, output: Any) -> None:
        seen.leave(output)

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
