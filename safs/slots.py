"""Activation slots: the places of a network where stage 1 puts an operator.

:func:`install` traces a module with torch.fx and gives every *use* of an activation a slot of its
own, also where a network shares one activation module between several uses (torchvision's ResNet).
:func:`find_modules` does without a graph, for modules that torch.fx cannot trace.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from safs.errors import SafsError
from safs.operators import OPERATORS
from safs.watch import Call, Watch, undisturbed, watch

Activation = Callable[[Tensor], Tensor]


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
        if x.dtype in (torch.bfloat16, torch.float16):  # of autocast: all operators in float32
            x = x.float()
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


@dataclass(frozen=True)
class Site:
    """A use of an activation, which a slot may take.

    Attributes:
        name: of the slot.
        what: the activation in words.
        channels: size of dimension 1 of its input.
        activation: as a function of its input alone; None where it depends on more.
        put: replaces it by a slot.
    """

    name: str
    what: str
    channels: int
    activation: Activation | None
    put: Callable[[Slot], None]


@dataclass(frozen=True)
class Found:
    """The activations of a network: those that slots may take, and why not the others, by name."""

    sites: tuple[Site, ...]
    left: dict[str, str]


class _Tracer(fx.Tracer):
    """Traces with the first argument alone, so that the others have their defaults."""

    def __init__(self, whole: Collection[str]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.whole or super().is_leaf_module(
            m, module_qualified_name
        )

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        first = next(iter(inspect.signature(self.root.forward).parameters), "x")
        return root_fn, [self.root, self.create_proxy("placeholder", first, (), {})]


def trace(model: nn.Module, whole: Collection[str] = ()) -> fx.GraphModule:
    """The module as a graph that shares its layers and parameters.

    Args:
        model: any module; arguments after its first have their defaults.
        whole: names of modules that become one node each, as torch's own layers do.

    Raises:
        SafsError: torch.fx cannot trace it.
    """
    try:
        return fx.GraphModule(model, _Tracer(whole).trace(model))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SafsError(f"torch.fx cannot trace {type(model).__name__}: {reason}") from error


def follow_mode(network: fx.GraphModule, training: fx.Graph) -> None:
    """Let a graph that was traced in evaluation ask for the mode where ``training`` says True.

    Args:
        network: traced in evaluation mode, with False for ``self.training``.
        training: the same module traced in training mode. Where it differs in more than such
            arguments, nothing is changed.
    """
    pairs = list(zip(network.graph.nodes, training.nodes, strict=False))
    if len(network.graph.nodes) != len(training.nodes) or any(a.op != b.op for a, b in pairs):
        return
    frozen = [
        (node, key)
        for node, other in pairs
        for (key, value), (_, theirs) in zip(_arguments(node), _arguments(other), strict=False)
        if value is False and theirs is True
    ]
    if not frozen:
        return
    network.add_module("mode", Mode())
    with network.graph.inserting_after(next(iter(network.graph.nodes))):
        mode = network.graph.call_module("mode")
    for node, key in frozen:
        if isinstance(key, int):
            node.update_arg(key, mode)
        else:
            node.update_kwarg(key, mode)
    network.recompile()


class Mode(nn.Module):
    """Whether the network trains, for functions that take it as an argument."""

    def forward(self) -> bool:
        return self.training


def _arguments(node: fx.Node) -> list[tuple[Any, Any]]:
    return [*enumerate(node.args), *node.kwargs.items()]


def find(network: fx.GraphModule, example: Tensor) -> Found:
    """The activations of a graph, in the order of their use in one pass in evaluation mode.

    Those that gate are left: a sigmoid or another bounded function whose result multiplies another
    map (squeeze-and-excitation, attention). So are those inside torch's own layers.
    """
    seen = Watch(dict(network.named_parameters()), example)

    class Watched(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            given = next(iter((*n.args, *n.kwargs.values())), None)
            seen.enter(n, self.env[given] if isinstance(given, fx.Node) else given)
            result = super().run_node(n)
            seen.leave(result)
            return result

    training = network.training
    with undisturbed(), seen:
        Watched(network.eval()).run(example)
    network.train(training)
    modules = dict(network.named_modules())
    return _sorted(
        (
            _left(call, _describe(call.place, modules), call.alone),
            _node_site(network, call, modules),
        )
        for call in seen.calls
    )


def find_modules(model: nn.Module, example: Tensor) -> Found:
    """The activations of any module that are modules of their own, as :func:`find` does.

    Those that are called as functions are left. A module that is used several times is one site.
    """
    training = model.training
    seen, _ = watch(model.eval(), example)
    model.train(training)
    calls: dict[tuple[str, str], Call] = {}
    for call in seen.calls:  # where one use gates, all are left
        if call.gates or (call.place, call.name) not in calls:
            calls[call.place, call.name] = call
    return _sorted(
        (_left(call, _owner(model, call), _replaceable(model, call)), _module_site(model, call))
        for call in calls.values()
    )


def put(network: nn.Module, sites: Iterable[Site], operators: str | Sequence[str]) -> None:
    """Replace activations by slots, which the submodule ``slots`` of the network then holds.

    Args:
        network: whose sites these are.
        sites: in the order of use.
        operators: what each slot holds; or one name for all.
    """
    places = list(sites)
    names = [operators] * len(places) if isinstance(operators, str) else operators
    device = next(network.parameters()).device
    network.add_module("slots", Slots())
    for site, operator in zip(places, names, strict=True):
        slot = Slot(operator, site.channels).to(device)
        network.get_submodule("slots").add_module(site.name, slot)
        site.put(slot)
    if isinstance(network, fx.GraphModule):
        network.graph.lint()
        network.recompile()
        network.delete_all_unused_submodules()


def install(model: nn.Module, example: Tensor, operators: str | Sequence[str]) -> fx.GraphModule:
    """Replace each use of an activation by a :class:`Slot`.

    Args:
        model: any module that torch.fx can trace.
        example: an input batch, used once to find activations and the width of each slot.
        operators: what each slot holds, in the order of use; or one name for all.

    Returns:
        A graph module whose submodule ``slots`` holds the slots in the order of use. Layers keep
        their names and parameters.

    Raises:
        SafsError: the module cannot be traced, or has no activation.
    """
    network = trace(model)
    sites = find(network, example).sites
    if not sites:
        raise SafsError(f"{type(model).__name__} has no activation to replace")
    put(network, sites, operators)
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


def _sorted(found: Iterable[tuple[str, Site]]) -> Found:
    sites: list[Site] = []
    left: dict[str, str] = {}
    for why, site in found:
        if why:
            left[site.name] = f"{site.what} {why}"
        else:
            sites.append(site)
    return Found(tuple(sites), left)


def _left(call: Call, place: str, alone: bool) -> str:
    """Why a call is no site; empty if it is one."""
    if not call.of_data:
        return "acts on parameters alone"
    if call.gates:
        return "gates: its result multiplies another map"
    if not alone:
        return f"is called inside {place}"
    if len(call.shape) < 2:
        return "is given an input without channels"
    return ""


# -- in a graph --


def _node_site(network: fx.GraphModule, call: Call, modules: dict[str, nn.Module]) -> Site:
    node: fx.Node = call.place

    def replace(slot: Slot) -> None:
        source = _source(node)
        with network.graph.inserting_before(node):
            use = network.graph.call_module(f"slots.{node.name}", (source,))
        node.replace_all_uses_with(use)
        if call.in_place:  # whoever reads its input later reads the result
            order = {other: place for place, other in enumerate(network.graph.nodes)}
            source.replace_all_uses_with(use, lambda user: order[user] > order[node])
        network.graph.erase_node(node)

    what = _describe(node, modules) if call.alone else call.name
    return Site(node.name, what, (*call.shape, 0, 0)[1], _function(network, node), replace)


def _source(node: fx.Node) -> fx.Node:
    """What an activation's node is given."""
    return next(iter(node.all_input_nodes))


def _function(network: fx.GraphModule, node: fx.Node) -> Activation | None:
    """The activation of a node as a function of its input, with parameters as they are."""
    if node.op == "call_module":
        return network.get_submodule(str(node.target))
    source, *others = node.all_input_nodes or [node]
    if any(other.op != "get_attr" for other in others):
        return None
    own = {other: attrgetter(str(other.target))(network) for other in others}
    function: Any = node.target if callable(node.target) else getattr(Tensor, str(node.target))
    args, kwargs = node.args, node.kwargs  # the node loses them when a slot takes its place

    def call(x: Tensor) -> Tensor:
        given = {source: x} | own
        result: Tensor = function(*map_arg(args, given.get), **map_arg(kwargs, given.get))
        return result

    return call


def _describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return str(modules[str(node.target)]).split("\n")[0].removesuffix("(")
    return str(getattr(node.target, "__name__", node.target))


# -- without a graph --


class Slots(nn.Module):
    """Holds the slots of a network; where that is a sequence, it is a step that does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Use(nn.Module):
    """Stands in the place of an activation module and calls its slot, which lies elsewhere."""

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self.slot = (slot,)  # in a tuple it is no submodule: it has one name only

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.slot[0](x)
        return output


def _module_site(model: nn.Module, call: Call) -> Site:
    old = model.get_submodule(call.place)
    places = [name for name, m in model.named_modules(remove_duplicate=False) if m is old]

    def replace(slot: Slot) -> None:
        for place in places:
            parent, _, name = place.rpartition(".")
            setattr(model.get_submodule(parent), name, Use(slot))

    what = str(old) if call.alone else call.name
    return Site(
        call.place.replace(".", "_") or call.name, what, (*call.shape, 0, 0)[1], old, replace
    )


def _owner(model: nn.Module, call: Call) -> str:
    kind = type(model.get_submodule(call.place)).__name__
    return f"{kind} {call.place!r}" if call.place else kind


def _replaceable(model: nn.Module, call: Call) -> bool:
    """Whether a call is a module of its own, and not a part of one of torch's layers."""
    if not call.alone or not call.place:
        return False
    path = call.place.split(".")[:-1]
    around = (model.get_submodule(".".join(path[:n])) for n in range(len(path) + 1))
    containers = nn.Sequential | nn.ModuleList | nn.ModuleDict
    torchs = (m for m in around if type(m).__module__.startswith("torch.nn."))
    return all(isinstance(m, containers) for m in torchs)
