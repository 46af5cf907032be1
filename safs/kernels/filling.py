"""What one training puts into a plan: values, operators and optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from safs import slots
from safs.kernels import structures as c
from safs.kernels.build import Unsupported
from safs.kernels.memory import Parameter, pointer
from safs.kernels.plan import Plan, SlotPlace, code
from safs.operators import OPERATORS
from safs.slots import Slot
from safs.spec import BETAS, Recipe, tadam_sum

_KINDS = c.SOURCE.enumeration("Kind")


def fill(plan: Plan, network: fx.GraphModule, recipe: Recipe) -> None:
    """Make a plan ready for a training, as if nothing had been trained with it before.

    Args:
        plan: of a network with the same layers and the same mask.
        network: what its values and operators come from.
        recipe: the optimiser.

    Raises:
        Unsupported: something that the kernels do not know.
    """
    parameters = dict(network.named_parameters())
    plan.network, plan.filled = network, []
    plan.tensors = {name: tensor for name, tensor in plan.tensors.items() if tensor.weight}
    for name, tensor in plan.tensors.items():
        tensor.start(parameters[name])
    for name, buffers in plan.buffers.items():
        _start_norm(network.get_submodule(name), buffers)
    structs = [_slot(plan, name, place, network) for name, place in plan.places.items()]
    _set_parameters(plan, structs)
    _set_rule(plan, recipe)
    _count(plan, network, parameters)


def _start_norm(module: nn.Module, buffers: dict[str, np.ndarray]) -> None:
    running = dict(module.named_buffers())
    buffers["start"][:] = 0
    buffers["steps"][:] = running["num_batches_tracked"].item()
    for key in ("running_mean", "running_var"):
        buffers[key][:] = running[key].detach().numpy()


def _slot(plan: Plan, name: str, place: SlotPlace, network: nn.Module) -> Any:
    """Operator, alpha, beta and own parameters of a slot, in its stage and for the optimiser."""
    slot = network.get_submodule(name)
    assert isinstance(slot, Slot)
    s, entry = place.stage, OPERATORS[slot.operator]
    size = slot.channels if entry.per_channel else 1
    held = _kept(plan, np.zeros((size, c.MAX_OWN), np.float32))
    s.code, s.scaled = code(slot.operator), slot.alpha is not None
    s.own, s.own_stride = pointer(held), c.MAX_OWN if entry.per_channel else 0
    struct = c.Slot(code=s.code, own=len(slot.own), size=size, held=pointer(held))
    struct.scale_sums = s.scale_sums
    struct.trains = _set_own(plan, name, slot, struct)
    s.own_sums = struct.sums = plan.partial(size, c.MAX_OWN) if struct.trains else c.Partial()
    s.alpha = s.beta = None
    if slot.alpha is not None and slot.beta is not None:
        alpha = _tensor(plan, f"{name}.alpha", slot.alpha)
        beta = _tensor(plan, f"{name}.beta", slot.beta)
        s.alpha, s.beta = pointer(alpha.value), pointer(beta.value)
        struct.g_alpha, struct.g_beta = pointer(alpha.gradient), pointer(beta.gradient)
    s.value = plan.value_map(name) if s.scaled else c.Map()
    return struct


def _set_own(plan: Plan, name: str, slot: Slot, struct: Any) -> bool:
    """Where the slot's own parameters lie; whether they are learned."""
    learned = {parameter.requires_grad for parameter in slot.own.values()}
    if len(learned) > 1:
        raise Unsupported(f"sparse kernels: {name} learns some of its own parameters")
    for i, (key, parameter) in enumerate(slot.own.items()):
        if parameter.requires_grad:
            tensor = _tensor(plan, f"{name}.own.{key}", parameter)
            struct.free[i], struct.gradient[i] = map(pointer, (tensor.value, tensor.gradient))
        else:
            values = parameter.detach().numpy().astype(np.float32).copy()
            struct.free[i] = pointer(_kept(plan, values))
    return learned == {True}


def _tensor(plan: Plan, name: str, source: nn.Parameter) -> Parameter:
    """A trained parameter of a slot."""
    made = Parameter(name, np.arange(source.numel()), weight=False)
    made.start(source)
    plan.tensors[name] = made
    return made


def _kept(plan: Plan, thing: Any) -> Any:
    """What a structure points to, kept until the next training."""
    plan.filled.append(thing)
    return thing


def _set_parameters(plan: Plan, structs: list[Any]) -> None:
    parameters = [tensor.struct() for tensor in plan.tensors.values()]
    plan.set_array("slots", c.Slot, structs, plan.filled)
    plan.set_array("parameters", c.Parameter, parameters, plan.filled)
    largest = max(len(tensor.value) for tensor in plan.tensors.values())
    plan.program.before = pointer(_kept(plan, np.zeros(largest, np.float32)))


def _set_rule(plan: Plan, recipe: Recipe) -> None:
    if recipe.optimizer not in _KINDS:
        raise Unsupported(f"sparse kernels: optimiser {recipe.optimizer}")
    rule = plan.program.rule
    rule.kind, rule.step = _KINDS.index(recipe.optimizer), 0
    rule.momentum, rule.decay = recipe.momentum, recipe.weight_decay
    (rule.beta1, rule.beta2), rule.eps = BETAS[recipe.betas], 1e-8
    rule.sum_kept, rule.sum_added = tadam_sum(rule.beta1, recipe.tadam)
    for tensor in plan.tensors.values():
        tensor.weight_sum[0] = rule.beta1 / (1 - rule.beta1)


def _count(plan: Plan, network: fx.GraphModule, parameters: dict[str, nn.Parameter]) -> None:
    """The number of free weights, which all have to be in the plan."""
    own = {id(p) for slot in slots.slots(network).values() for p in slot.parameters()}
    keep = {f"{name}.weight": int(m.sum()) for name, m in plan.mask.items()}
    weights = {name: p for name, p in parameters.items() if id(p) not in own}
    if missing := set(weights).difference(plan.tensors):
        raise Unsupported(f"sparse kernels: nothing uses {min(missing)}")
    plan.program.free = sum(keep.get(name, p.numel()) for name, p in weights.items())
