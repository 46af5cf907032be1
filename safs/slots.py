"""Activation slots: the places of a network where stage 1 puts an operator.

:func:`install` traces any module with torch.fx and gives every *use* of an activation a slot of its
own, also where a network shares one activation module between several uses (torchvision's ResNet).
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from safs.errors import SafsError
from safs.operators import OPERATORS

# Modules and functions that are activations wherever they stand ...
_MODULES = (
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU,
    nn.PReLU, nn.Tanh, nn.Softplus, nn.LogSigmoid, nn.Mish, nn.Hardtanh, nn.Softsign,
)  # fmt: skip
_FUNCTIONS = {
    torch.relu, torch.relu_, torch.tanh, functional.relu, functional.relu_, functional.relu6,
    functional.silu, functional.hardswish, functional.gelu, functional.elu, functional.selu,
    functional.celu, functional.leaky_relu, functional.tanh, functional.softplus,
    functional.logsigmoid, functional.mish, functional.hardtanh, functional.softsign,
}  # fmt: skip
_METHODS = {"relu", "relu_", "tanh", "tanh_"}
# ... and those that are one only where they do not gate, i.e. where nothing multiplies by them.
_GATE_MODULES = (nn.Sigmoid, nn.Hardsigmoid)
_GATE_FUNCTIONS = {torch.sigmoid, functional.sigmoid, functional.hardsigmoid}
_GATE_METHODS = {"sigmoid"}
_PRODUCTS = {python_operator.mul, python_operator.imul, torch.mul, "mul", "mul_"}


class Slot(nn.Module):
    """``y = alpha * f(beta * x)`` at one place of the network (Figure 3a).

    A new slot holds the default operator; :meth:`fill` puts another in. ``alpha`` and ``beta`` are
    parameters while they are learned (stage 2) and absent, meaning 1, otherwise (stage 1, Eq. 5).

    Attributes:
        operator: name of the operator in :data:`~safs.operators.base.OPERATORS`.
        channels: size of dimension 1 of the input (channels, or units of a linear layer).
    """

    def __init__(self, operator: str, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.fill(operator)

    def fill(self, operator: str, *, scaled: bool = False, train_own: bool = False) -> None:
        """Put ``operator`` in, at its published parameters.

        Args:
            operator: a name in the operator registry.
            scaled: learn alpha and beta, both starting at 1. SReLU, PReLU and FALU take none.
            train_own: also learn the operator's own parameters. Those of SReLU, PReLU and FALU,
                which consist of them, are always learned.
        """
        entry = OPERATORS[operator]
        self.operator = operator
        self.own = nn.ParameterDict()
        for name, value in entry.own.items():
            size = self.channels if entry.per_channel else 1
            learned = entry.trains or train_own
            self.own[name] = nn.Parameter(torch.full((size,), float(value)), requires_grad=learned)
        scaled = scaled and entry.scaled
        self.alpha = nn.Parameter(torch.ones(())) if scaled else None
        self.beta = nn.Parameter(torch.ones(())) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        entry = OPERATORS[self.operator]
        shape = (1, -1) + (1,) * (x.dim() - 2) if entry.per_channel else (1,) * x.dim()
        own = {name: value.view(shape) for name, value in self.own.items()}
        if self.alpha is None or self.beta is None:
            return entry.function(x, **own)
        return self.alpha * entry.function(self.beta * x, **own)

    def describe(self) -> dict[str, object]:
        """Operator, alpha, beta and own parameters as plain numbers, for a run's record."""
        own = {name: value.detach().cpu().tolist() for name, value in self.own.items()}
        return {
            "operator": self.operator,
            "alpha": 1.0 if self.alpha is None else float(self.alpha.detach()),
            "beta": 1.0 if self.beta is None else float(self.beta.detach()),
            "own": {name: v[0] if len(v) == 1 else v for name, v in own.items()},
        }

    def extra_repr(self) -> str:
        return f"{self.operator}, channels={self.channels}"


def trace(model: nn.Module) -> fx.GraphModule:
    """The module as a graph that shares its layers and parameters.

    Raises:
        SafsError: torch.fx cannot trace it, or it has no activation.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SafsError(f"torch.fx cannot trace {type(model).__name__}: {reason}") from error
    network = fx.GraphModule(model, graph)
    if not sites(network):
        raise SafsError(f"{type(model).__name__} has no activation to replace")
    return network


def sites(network: fx.GraphModule) -> list[fx.Node]:
    """The uses of activations in a graph, in their order.

    Sigmoids and softmaxes that gate (squeeze-and-excitation, attention) are none.
    """
    modules = dict(network.named_modules())
    return [node for node in network.graph.nodes if _is_activation(node, modules)]


def install(model: nn.Module, example: Tensor, operators: str | Sequence[str]) -> fx.GraphModule:
    """Replace each use of an activation by a :class:`Slot`.

    Args:
        model: any module that torch.fx can trace, or what :func:`trace` made of one.
        example: an input batch, used once to learn the width of each slot.
        operators: what each slot holds, in the order of use; or one name for all.

    Returns:
        A graph module whose submodule ``slots`` holds the slots in the order of use. Layers keep
        their names and parameters.

    Raises:
        SafsError: the module cannot be traced, or has no activation.
    """
    network = model if isinstance(model, fx.GraphModule) else trace(model)
    places = sites(network)
    names = [operators] * len(places) if isinstance(operators, str) else operators
    widths = _widths(network, example, places)
    device = next(network.parameters()).device
    for node, operator in zip(places, names, strict=True):
        target = f"slots.{node.name}"
        network.add_submodule(target, Slot(operator, widths[node]).to(device))
        with network.graph.inserting_before(node):
            replacement = network.graph.call_module(target, (node.args[0],))
        node.replace_all_uses_with(replacement)
        network.graph.erase_node(node)
    network.graph.lint()
    network.recompile()
    network.delete_all_unused_submodules()
    return network


def slots(network: nn.Module) -> dict[str, Slot]:
    """The slots of an installed network by name, in the order of use."""
    return dict(_iterate(network))


def fill(
    network: nn.Module, chromosome: Sequence[str], *, scaled: bool = False, train_own: bool = False
) -> None:
    """Put one operator into each slot; see :meth:`Slot.fill`."""
    places = slots(network)
    if len(chromosome) != len(places):
        raise SafsError(f"a chromosome of {len(chromosome)} operators for {len(places)} slots")
    device = next(network.parameters()).device
    for slot, operator in zip(places.values(), chromosome, strict=True):
        slot.fill(operator, scaled=scaled, train_own=train_own)
        slot.to(device)


def activation_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The learned parameters of all slots: alpha, beta and operators' own."""
    return [p for slot in slots(network).values() for p in slot.parameters() if p.requires_grad]


def _iterate(network: nn.Module) -> Iterator[tuple[str, Slot]]:
    holder = getattr(network, "slots", None)
    if holder is None:
        raise SafsError(f"{type(network).__name__} has no slots; call safs.slots.install first")
    for name, module in holder.named_children():
        if isinstance(module, Slot):
            yield name, module


def _is_activation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, _GATE_MODULES):
            return not _gates(node)
        return isinstance(module, _MODULES)
    if node.op == "call_function":
        return node.target in _FUNCTIONS or (node.target in _GATE_FUNCTIONS and not _gates(node))
    if node.op == "call_method":
        return node.target in _METHODS or (node.target in _GATE_METHODS and not _gates(node))
    return False


def _gates(node: fx.Node) -> bool:
    return any(user.target in _PRODUCTS for user in node.users)


@torch.no_grad()
def _widths(
    network: fx.GraphModule, example: Tensor, places: Sequence[fx.Node]
) -> dict[fx.Node, int]:
    """The size of dimension 1 of what each activation is given, from one pass in eval mode."""
    seen: dict[fx.Node, int] = {}

    class Watched(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if n in places:
                seen[n] = self.env[cast(fx.Node, n.args[0])].shape[1]
            return super().run_node(n)

    training = network.training
    Watched(network.eval(), garbage_collect_values=False).run(example)
    network.train(training)
    return seen
