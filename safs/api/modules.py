"""A copy of a stranger's module: out of its wrappers, without hooks that compute its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from safs import slots
from safs.errors import SafsError
from safs.networks.base import LAYERS

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``, ``DataParallel`` and the like.

    Raises:
        SafsError: it is no module, or one that has no Python code.
    """
    if not isinstance(model, nn.Module):
        raise SafsError(f"model: got a {type(model).__name__}, expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise SafsError(f"model: {type(model).__name__} of torch.jit; give the original module")
    inner = getattr(model, "_orig_mod", None)
    if inner is None and isinstance(model, _WRAPPERS):
        inner = model.module
    return model if inner is None else unwrapped(inner)


def plain_copy(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy in which the pruning of ``torch.nn.utils.prune`` is plain zeros; the model stays.

    Returns:
        The copy, and the names of the parameters that were pruned so.

    Raises:
        SafsError: it cannot be copied, or has what neither training nor masks could deal with.
    """
    if any(isinstance(module, slots.Slot) for module in model.modules()):
        raise SafsError(f"{type(model).__name__} has slots already; give the original module")
    for parameter in model.parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise SafsError(f"{type(model).__name__} has lazy layers; run it on a batch first")
    try:
        plain = copy.deepcopy(model, _copies(model))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise SafsError(f"{type(model).__name__} cannot be copied: {reason}") from error
    pruned = []
    for name, module, hook in list(_pruning(plain)):
        torch_prune.remove(module, hook._tensor_name)
        pruned.append(f"{name}.{hook._tensor_name}".lstrip("."))
    for problem in _problems(plain):
        raise SafsError(problem)
    return plain, pruned


def _copies(model: nn.Module) -> dict[int, Any]:
    """Copies of tensors that hooks or the module keep; of these, deepcopy knows leaves only."""
    kept = (value for module in model.modules() for value in vars(module).values())
    return {
        id(value): value.detach().clone()
        for value in kept
        if isinstance(value, Tensor) and not value.is_leaf
    }


def _pruning(model: nn.Module) -> Iterator[tuple[str, nn.Module, Any]]:
    for name, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, torch_prune.BasePruningMethod):
                yield name, module, hook


def _problems(model: nn.Module) -> Iterator[str]:
    """What the training loop and the masks could not deal with."""
    owners: dict[int, str] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        if "weight" not in layer._parameters:
            yield (
                f"the weight of layer {name!r} is computed from others; remove its parametrisation "
                "first (weight norm, spectral norm)"
            )
            return
        if not layer.weight.requires_grad:
            yield f"the weights of layer {name!r} are frozen (requires_grad is False)"
        other = owners.setdefault(id(layer.weight), name)
        if other != name:
            yield f"layers {other!r} and {name!r} share their weights; one mask cannot fit both"
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            yield f"{name} is {parameter.dtype}, expected torch.float32"
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_meta:
            yield f"{name} is on the device meta, expected values (load_state_dict(assign=True))"
