"""A stranger's module becomes a network with slots that computes what the module computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import prune as torch_prune

from safs import slots
from safs.errors import SafsError
from safs.networks import prunable
from safs.operators import OPERATORS

# An operator equals an activation if the two agree here, near 0 and far from it.
_GRID = torch.cat([torch.linspace(-8, 8, 129), torch.tensor([-50.0, 50.0])])
_TOLERANCE = 1e-6


def adopt(model: nn.Module, example: Tensor, default: str | None = None) -> fx.GraphModule:
    """A copy of ``model`` with a slot for each use of an activation, which holds that activation.

    Pruning of ``torch.nn.utils.prune`` becomes plain zeros in the copy; the model stays as it is.

    Args:
        model: any module that torch.fx can trace, with float32 weights.
        example: an input batch.
        default: the operator for activations that no registered operator equals; None refuses
            them. The copy then computes something else than the model.

    Raises:
        SafsError: the model cannot be traced or behaves differently in training in a way that a
            trace does not show, an activation is not known, a layer cannot be pruned, or the copy
            computes something else.
    """
    plain = _plain(model)
    _check_layers(plain)
    operators = own_operators(plain, default)
    network = slots.install(plain, example, next(iter(OPERATORS)))
    slots.fill(network, list(operators.values()))
    if default is None:
        _check_equal(plain, network, example)
    return network


@torch.no_grad()
def _check_equal(model: nn.Module, network: nn.Module, example: Tensor) -> None:
    """Refuse a copy that computes something else, as after an activation that acts in place."""
    training = [(m, m.training) for m in (*model.modules(), *network.modules())]
    wanted, found = (module.eval()(example.clone()) for module in (model, network))
    for module, mode in training:
        module.training = mode
    if not torch.allclose(wanted, found, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise SafsError(
            f"{type(model).__name__} computes something else once its activations are slots: does "
            "one act in place on a tensor that is read again? Use its form that returns the result"
        )


def own_operators(model: nn.Module, default: str | None = None) -> dict[str, str]:
    """The operator of each activation site, by slot name: the first that equals it.

    Raises:
        SafsError: see :func:`adopt`.
    """
    graph = _trace(model)
    modules = dict(model.named_modules())
    sites = [node for node in graph.nodes if slots._is_activation(node, modules)]
    values = _operator_values()
    found = {node.name: _equal(_value(node, modules), values) for node in sites}
    unknown = {name for name, operator in found.items() if operator is None}
    if unknown and default is None:
        what = ", ".join(f"{n.name} ({_describe(n, modules)})" for n in sites if n.name in unknown)
        raise SafsError(
            f"no operator equals the activation of {what}; register it (safs.operator), or name "
            "the operator that such sites start with (default=...)"
        )
    if default is not None:
        OPERATORS[default]  # an unknown name is an error here, not later
    return {name: operator or str(default) for name, operator in found.items()}


def _plain(model: nn.Module) -> nn.Module:
    """A deep copy without the hooks of torch.nn.utils.prune."""
    if any(isinstance(module, slots.Slot) for module in model.modules()):
        raise SafsError(f"{type(model).__name__} has slots already; give the original module")
    for module, hook in _pruned(model):
        if hook._tensor_name != "weight":
            raise SafsError(f"torch.nn.utils.prune acts on {hook._tensor_name!r}; weights only")
        # What the hook computes is not a leaf of autograd, and only leaves can be copied.
        module.weight = module.weight.detach()
    plain = copy.deepcopy(model)
    for module, _ in _pruned(plain):
        torch_prune.remove(module, "weight")
    return plain


def _pruned(model: nn.Module) -> list[tuple[Any, Any]]:
    return [
        (module, hook)
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, torch_prune.BasePruningMethod)
    ]


def _trace(model: nn.Module) -> fx.Graph:
    """The graph of the model, if it is the same in training and in evaluation."""
    training = model.training
    try:
        graphs = [fx.Tracer().trace(model.train(mode)) for mode in (False, True)]
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SafsError(f"torch.fx cannot trace {type(model).__name__}: {reason}") from error
    finally:
        model.train(training)
    if str(graphs[0]) != str(graphs[1]):
        raise SafsError(
            f"{type(model).__name__} asks for self.training in its forward, which a trace freezes; "
            "use modules that do so themselves (nn.Dropout for functional.dropout)"
        )
    return graphs[0]


def _operator_values() -> dict[str, Tensor]:
    """Every operator on the grid at its published parameters; those without any come first."""
    entries = sorted(OPERATORS.values(), key=lambda entry: bool(entry.own))
    return {
        entry.name: entry.function(
            _GRID.clone()[:, None], **{k: torch.tensor([float(v)]) for k, v in entry.own.items()}
        ).detach()
        for entry in entries
    }


def _equal(value: Tensor | None, values: dict[str, Tensor]) -> str | None:
    if value is None:
        return None
    for name, other in values.items():
        if torch.allclose(value, other, rtol=_TOLERANCE, atol=_TOLERANCE):
            return name
    return None


def _value(node: fx.Node, modules: dict[str, nn.Module]) -> Tensor | None:
    """An activation on the grid, ``[G, 1]``; None where it depends on more than its input."""
    x = _GRID.clone()[:, None]
    rest = (*node.args[1:], *node.kwargs.values())
    if not node.args or any(isinstance(item, fx.Node) for item in rest):
        return None
    try:
        with torch.no_grad():
            if node.op == "call_module":
                return copy.deepcopy(modules[str(node.target)]).cpu().eval()(x)
            function: Any = node.target if callable(node.target) else getattr(Tensor, node.target)
            return function(x, *node.args[1:], **node.kwargs)
    except RuntimeError:
        return None


def _describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return str(modules[str(node.target)])
    return str(getattr(node.target, "__name__", node.target))


def _check_layers(network: nn.Module) -> None:
    for problem in _problems(network):
        raise SafsError(problem)


def _problems(network: nn.Module) -> Iterator[str]:
    """What the training loop and the masks could not deal with."""
    try:
        weights = prunable(network)
    except AttributeError as error:
        yield f"a layer's weight is computed from others; remove its parametrisation: {error}"
        return
    if not weights:
        yield "no convolution or linear layer to prune"
    owners: dict[int, str] = {}
    for name, weight in weights.items():
        if not weight.requires_grad:
            yield f"the weights of layer {name!r} are frozen (requires_grad is False)"
        other = owners.setdefault(id(weight), name)
        if other != name:
            yield f"layers {other!r} and {name!r} share their weights; one mask cannot fit both"
    for name, parameter in network.named_parameters():
        if parameter.dtype != torch.float32:
            yield f"{name} is {parameter.dtype}, expected torch.float32"
