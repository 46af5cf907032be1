"""A stranger's module becomes a network with slots that computes what the module computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from safs import slots
from safs.api.activations import own_operators
from safs.api.modules import plain_copy, unwrapped
from safs.api.report import DenseTold
from safs.backends.device import seed_generators
from safs.errors import SafsError
from safs.kernels.misread import altered, misread
from safs.networks.base import LAYERS
from safs.slots import Activation, Found
from safs.watch import Watch, watch


@dataclass(frozen=True)
class Adopted:
    """A network with slots, and what of the module was not taken.

    Attributes:
        network: a copy of the module, in whose slots its own activations are.
        left: activations that are no slots, by name, and why.
        dense: layers that cannot be pruned, by name.
        misread: why the kernels are kept from the network (:mod:`safs.kernels.misread`).
    """

    network: nn.Module
    left: dict[str, str]
    dense: dict[str, DenseTold]
    misread: str = ""

    def notices(self) -> Iterator[str]:
        """A line for each reason for which something is left as it is."""
        left = self.left.items()
        dense = ((name, layer.why) for name, layer in self.dense.items())
        for what, told in (("no slot", left), ("left dense", dense)):
            names: dict[str, list[str]] = {}
            for name, why in told:
                names.setdefault(why, []).append(name)
            yield from (f"{what}: {', '.join(n)}: {why}" for why, n in names.items())


def adopt(model: nn.Module, example: Tensor, default: str | None = None) -> nn.Module:
    """The network of :func:`take`."""
    return take(model, example, default).network


def take(model: nn.Module, example: Tensor, default: str | None = None) -> Adopted:
    """A copy of ``model`` with a slot for each use of an activation, which holds that activation.

    The copy is a graph of torch.fx, or where that cannot be made, the module itself with slots in
    the place of its activation modules. Pruning of ``torch.nn.utils.prune`` becomes plain zeros in
    the copy; the model and the example stay as they are.

    Args:
        model: any classifier, with float32 weights. Wrappers (``torch.compile``,
            ``DataParallel``) are taken off; arguments after the first have their defaults.
        example: an input batch.
        default: the operator for activations that no registered operator equals; None refuses
            them. The copy then computes something else than the model.

    Raises:
        SafsError: the model does not take the example or returns no finite logits, is random in
            evaluation, has an activation that is not known or none at all, a layer that cannot be
            pruned, or computes something else with slots.
    """
    plain, pruned = plain_copy(unwrapped(model))
    training = plain.training
    wanted = _outputs(plain, example)
    seen, again = watch(plain.eval(), example.clone())
    _check_seen(plain, seen)
    if not _alike(again, wanted[0]):
        raise SafsError(f"{type(plain).__name__} is random in evaluation: two passes of it differ")
    try:
        network, found = _traced(plain, example, seen)
        _fill(network, found, example, wanted, default)
    except Unfit as reason:
        network, found = _replaced(plain, example, reason)
        _fill(network, found, example, wanted, default)
    _check_count(network, example, len(seen.calls))
    dense = _name_weights(network, seen.weights, pruned)
    shape = tuple(example.shape[1:])
    wrong = misread(network, shape) if len(shape) == 3 else ""
    if wrong:
        _keep_from_the_kernels(network)
    return Adopted(network.train(training), found.left, dense, wrong)


def _keep_from_the_kernels(network: nn.Module) -> None:
    """Put a step in front that changes nothing and that the kernels do not know."""
    assert isinstance(network, fx.GraphModule)
    start = next(node for node in network.graph.nodes if node.op == "placeholder")
    with network.graph.inserting_after(start):
        step = network.graph.call_function(for_pytorch, (start,))
    start.replace_all_uses_with(step, delete_user_cb=lambda user: user is not step)
    network.recompile()


def for_pytorch(x: Tensor) -> Tensor:
    """The input of a network that PyTorch trains alone (:mod:`safs.kernels.misread`)."""
    return x


def _told(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in reasons.items())


class Unfit(SafsError):
    """Why a network with slots cannot stand for the module."""


_TAKEN = {"slots", "mode", *dir(fx.GraphModule(nn.Module(), fx.Graph()))} - {*dir(nn.Module())}
"""Names of a graph with slots that no submodule or tensor of its own may have."""


# -- with slots --


def _traced(plain: nn.Module, example: Tensor, seen: Watch) -> tuple[nn.Module, Found]:
    """The module as a graph; modules that call no activation stay whole in it, chains apart."""
    calling = [f"{call.place}." for call in seen.calls]
    names = [name for name, module in plain.named_modules() if name and not _is_chain(module)]
    whole = {name for name in names if not any(c.startswith(f"{name}.") for c in calling)}
    try:
        network = slots.trace(copy.deepcopy(plain).eval(), whole)
        _check_free(network, plain)
        slots.follow_mode(network, slots.trace(copy.deepcopy(plain).train(), whole).graph)
        return network, slots.find(network, example.clone())
    except Exception as error:
        own = (*plain._modules, *plain._parameters, *plain._buffers)
        taken = (_renaming(plain, name) for name in own if name in _TAKEN)
        raise Unfit(next(taken, str(error).partition("\n")[0])) from error


def _is_chain(module: nn.Module) -> bool:
    """Whether a module is its parts one after the other, which the kernels can take one by one."""
    return type(module).forward is nn.Sequential.forward and not altered(module)


def _replaced(plain: nn.Module, example: Tensor, reason: Unfit) -> tuple[nn.Module, Found]:
    """The module whose activation modules are sites; if there are none, ``reason`` holds."""
    network = copy.deepcopy(plain)
    _check_free(network, plain)
    found = slots.find_modules(network, example.clone())
    if not found.sites:
        raise SafsError(
            f"{reason}; without a graph only modules become slots (nn.ReLU), {_told(found.left)}"
        )
    return network, found


def _check_free(network: nn.Module, plain: nn.Module) -> None:
    """Nothing of the module's own may be where its slots go, or the notes on its weights."""
    if hasattr(network, "slots"):
        raise SafsError(_renaming(plain, "slots"))
    if not isinstance(getattr(network, "meta", {}), Mapping):
        raise SafsError(_renaming(plain, "meta"))


def _renaming(plain: nn.Module, name: str) -> str:
    whose = f"{type(plain).__name__}.{name}"
    return f"{whose}: a network with slots has something of that name itself; rename it"


def _fill(
    network: nn.Module,
    found: Found,
    example: Tensor,
    wanted: tuple[Tensor, Tensor],
    default: str | None,
) -> None:
    """Put slots in; with the module's own activations in them, outputs must be as wanted."""
    if not found.sites:
        raise SafsError(f"no activation can be replaced, {_told(found.left)}")
    own = own_operators(found.sites, default)
    slots.put(network, found.sites, [operator or str(default) for operator in own.values()])
    probe = copy.deepcopy(network)
    for site in found.sites:
        if own[site.name] is None and site.activation is not None:
            slot: nn.Module = slots.slots(probe)[site.name]
            slot.forward = _out_of_place(site.activation)
    _check_equal(_outputs(probe, example), wanted)


def _out_of_place(activation: Activation) -> Activation:
    """As a slot calls its operator: a slot never changes its input."""
    return lambda x: activation(x.clone())


# -- checks --


def _outputs(model: nn.Module, example: Tensor) -> tuple[Tensor, Tensor]:
    """What a copy of a module makes of the example in evaluation and training, drawing alike.

    Raises:
        SafsError: it does not take the example, or returns no finite logits.
    """
    probe = copy.deepcopy(model)
    return logits(probe.eval(), example), logits(probe.train(), example)


def logits(model: nn.Module, example: Tensor) -> Tensor:
    """What a module makes of the example in the mode that it is in.

    Raises:
        SafsError: it does not take the example, or returns no finite logits.
    """
    output, mode = passed(model, example), "training" if model.training else "evaluation"
    returns, wrong = f"{_whose(model)} returns", _no_logits(output, len(example))
    if wrong:
        several = model.training and not isinstance(output, Tensor)
        hint = "; build it without auxiliary outputs (aux_logits=False)" if several else ""
        raise SafsError(f"{returns} {wrong} in {mode}, expected logits [N, classes]{hint}")
    if not bool(output.isfinite().all()):
        found = output[~output.isfinite()][0].item()
        raise SafsError(f"{returns} {found} in {mode}, expected finite logits{_strange(model)}")
    return output.detach()


def passed(model: nn.Module, example: Tensor) -> Any:
    """Whatever a module returns for the example; drawing alike, and its input stays.

    Raises:
        SafsError: it does not take the example.
    """
    try:
        with torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
            seed_generators(example.device, 0)
            return model(example.clone())
    except Exception as error:
        shape, reason = list(example.shape), " ".join(str(error).split()) or type(error).__name__
        what = f"{_whose(model)} does not take inputs of the shape {shape}"
        raise SafsError(f"{what}: {reason}") from error


def _whose(model: nn.Module) -> str:
    return "the model" if isinstance(model, fx.GraphModule) else type(model).__name__


def _no_logits(output: Any, count: int) -> str:
    """What an output is instead of logits of ``count`` inputs; empty if it is no other."""
    if not isinstance(output, Tensor):
        return f"a {type(output).__name__}"
    if output.layout != torch.strided:
        return str(output.layout)
    if not output.is_floating_point():
        return str(output.dtype)
    if output.dim() != 2 or output.shape[1] == 0:
        return str(list(output.shape))
    return "" if len(output) == count else f"{list(output.shape)} for {count} inputs"


def _strange(model: nn.Module) -> str:
    """The end of an error line: the first parameter or buffer that is not finite, if one is."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        wrong = value.detach()[~value.isfinite()]
        if wrong.numel():
            return f"; {name} holds {wrong[0].item()}"
    return ""


def _check_seen(plain: nn.Module, seen: Watch) -> None:
    whose = type(plain).__name__
    if seen.random is not None:
        place, name = seen.random
        raise SafsError(
            f"{whose} is random in evaluation: {name} draws numbers in {place or 'its forward'} "
            "(functional.dropout needs training=self.training, nn.Dropout does not)"
        )
    if not seen.calls:
        raise SafsError(f"{whose} has no activation to replace")
    if not seen.weights:
        raise SafsError(f"{whose} has no convolution or linear layer to prune")


def _check_equal(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    if not _alike(found[0], wanted[0]):
        raise Unfit(
            "the module computes something else once its activations are slots: does one act in "
            "place on a tensor that is read again? Use its form that returns the result"
        )
    if not _alike(found[1], wanted[1]):
        raise Unfit(
            "the module asks for self.training in its forward, which a trace freezes; use "
            "modules that do so themselves (nn.Dropout for functional.dropout)"
        )


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()), equal_nan=True)


def _check_count(network: nn.Module, example: Tensor, wanted: int) -> None:
    """Slots and activations that were left must be as many as the module called."""
    uses = 0

    def count(*_: object) -> None:
        nonlocal uses
        uses += 1

    hooks = [slot.register_forward_hook(count) for slot in slots.slots(network).values()]
    seen, _ = watch(network.eval(), example.clone())
    for hook in hooks:
        hook.remove()
    left = sum(not str(call.place).startswith("slots.") for call in seen.calls)
    if uses + left != wanted:
        raise SafsError(f"of {wanted} activations {uses} are slots and {left} are left")


# -- weights --


def _name_weights(
    network: nn.Module, used: Mapping[str, bool], pruned: Sequence[str]
) -> dict[str, DenseTold]:
    """Note in a network which weights are pruned; returns the others, by layer.

    Raises:
        SafsError: there is none, one is frozen, or ``torch.nn.utils.prune`` acts on a parameter
            that is no such weight.
    """
    layers = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, LAYERS)}
    weights: list[str] = []
    dense: dict[str, DenseTold] = {}
    for name, parameter in network.named_parameters():
        if used.get(name) is False:
            why = "its zeros do not stay, another weight is made of it"
            dense[name] = DenseTold(weights=parameter.numel(), why=why)
        elif name in used and not parameter.requires_grad:
            raise SafsError(f"the weights of layer {name!r} are frozen (requires_grad is False)")
        elif name in used:
            weights.append(name)
        elif name in layers:
            dense[name] = DenseTold(weights=parameter.numel(), why="no forward pass uses it")
    if not weights:
        raise SafsError(f"no layer can be pruned, {_told({n: d.why for n, d in dense.items()})}")
    for name in pruned:
        if name not in weights:
            why = dense[name].why if name in dense else "it is no weight of a layer"
            raise SafsError(f"torch.nn.utils.prune acts on {name!r}: {why}")
    network.meta = {**getattr(network, "meta", {}), "weights": tuple(weights)}  # type: ignore[assignment]
    return {name.removesuffix(".weight"): layer for name, layer in dense.items()}
