"""A stranger's module becomes a network with slots that computes what the module computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
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
    network = slots.trace(plain.eval())
    own = own_operators(network, default)
    unknown = {name: call for name, (operator, call) in own.items() if operator is None}
    operators = [operator or str(default) for operator, _ in own.values()]
    slots.install(network, example, operators)
    _check_equal(plain, network, example, unknown)
    plain.train(model.training)
    return network.train(model.training)


Activation = Callable[[Tensor], Tensor]


@torch.no_grad()
def _check_equal(
    model: nn.Module, network: fx.GraphModule, example: Tensor, unknown: Mapping[str, Activation]
) -> None:
    """Refuse a copy that computes something else, with ``unknown`` activations as they were.

    In training mode what is drawn at random is drawn alike, on copies whose statistics may move.
    """
    whose = type(model).__name__
    for training in (False, True):
        copies = copy.deepcopy((model, network))
        for name, call in unknown.items():
            slots.slots(copies[1])[name].forward = call  # type: ignore[method-assign,assignment]
        outputs = []
        for module in copies:
            with torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
                torch.manual_seed(0)
                outputs.append(module.train(training)(example.clone()))
        wanted, found = outputs
        if torch.allclose(wanted, found, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
            continue
        if training:
            raise SafsError(
                f"{whose} asks for self.training in its forward, which a trace freezes; use "
                "modules that do so themselves (nn.Dropout for functional.dropout)"
            )
        raise SafsError(
            f"{whose} computes something else once its activations are slots: does one act in "
            "place on a tensor that is read again? Use its form that returns the result"
        )


def own_operators(
    network: fx.GraphModule, default: str | None = None
) -> dict[str, tuple[str | None, Activation]]:
    """The operator that equals each activation, and the activation itself, by slot name.

    Raises:
        SafsError: no operator equals an activation, and ``default`` names none to start with.
    """
    modules = dict(network.named_modules())
    sites = slots.sites(network)
    values = _operator_values()
    found = {node.name: (_equal(_value(node, modules), values), _call(node, modules))
             for node in sites}  # fmt: skip
    unknown = [node for node in sites if found[node.name][0] is None]
    if unknown and default is None:
        what = ", ".join(f"{node.name} ({_describe(node, modules)})" for node in unknown)
        raise SafsError(
            f"no operator equals the activation of {what}; register it (safs.operator), or name "
            "the operator that such sites start with (default=...)"
        )
    if default is not None:
        OPERATORS[default]  # an unknown name is an error here, not later
    return found


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


def _call(node: fx.Node, modules: dict[str, nn.Module]) -> Activation:
    """The activation of a site as a function of its input alone."""
    if node.op == "call_module":
        return modules[str(node.target)].forward
    function: Any = node.target if callable(node.target) else getattr(Tensor, node.target)
    return lambda x: function(x, *node.args[1:], **node.kwargs)


def _value(node: fx.Node, modules: dict[str, nn.Module]) -> Tensor | None:
    """An activation on the grid, ``[G, 1]``; None where it depends on more than its input."""
    rest = (*node.args[1:], *node.kwargs.values())
    if not node.args or any(isinstance(item, fx.Node) for item in rest):
        return None
    if node.op == "call_module":
        modules = {str(node.target): copy.deepcopy(modules[str(node.target)]).cpu().eval()}
    try:
        with torch.no_grad():
            return _call(node, modules)(_GRID.clone()[:, None])
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
