"""Masks from elsewhere: as they are, as zeros of a checkpoint, or from torch.nn.utils.prune."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safs.errors import SafsError
from safs.networks import prunable

MaskSource = Mapping[str, Tensor] | nn.Module | str | Path
"""A mask or checkpoint by layer name, a module, or a file of either."""


def read(source: MaskSource, network: nn.Module) -> dict[str, Tensor]:
    """The mask that ``source`` holds for every prunable layer of ``network``.

    For a layer ``conv1`` the first of these counts: a tensor ``conv1.weight_mask`` (the buffer of
    ``torch.nn.utils.prune``), ``conv1`` (a mask), ``conv1.weight`` (a weight, whose exact zeros are
    pruned). In a mask, 1 survives and 0 is pruned. For a weight of another name, as an LSTM's
    ``rnn.weight_hh_l0``, they are ``rnn.weight_hh_l0_mask`` and ``rnn.weight_hh_l0``.

    Args:
        source: tensors by name; a module, which stands for its state; or a file of tensors by name,
            safetensors by its ending or else what ``torch.save`` wrote (optionally under the key
            ``state_dict``), read without running any code in it.
        network: says which layers there are, and their shapes.

    Raises:
        SafsError: a layer is missing, of another shape or holds what it may not; no weight
            survives; or the file cannot be read.
    """
    tensors = _tensors(source)
    weights = {name for name, _ in network.named_parameters()}
    mask = {
        name: _layer(name, weight, tensors, weights) for name, weight in prunable(network).items()
    }
    if not any(bool(keep.any()) for keep in mask.values()):
        raise SafsError("given mask: no weight survives; expected at least one")
    return mask


def _layer(
    name: str, weight: Tensor, tensors: Mapping[str, Tensor], weights: Collection[str]
) -> Tensor:
    for key in (f"{name}.weight_mask", f"{name}_mask", name, f"{name}.weight"):
        if key in tensors:
            is_mask = key.endswith("_mask") or (key == name and name not in weights)
            return _survivors(key, tensors[key], weight, is_mask=is_mask)
    raise SafsError(f"given mask: nothing for layer {name!r}; found {', '.join(tensors) or 'none'}")


def _survivors(key: str, found: object, weight: Tensor, is_mask: bool) -> Tensor:
    """Which weights a tensor leaves: a mask says so by 0 and 1, a weight by what is not 0."""
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_complex():
        raise SafsError(f"given mask: {key} is a {type(found).__name__}, expected a dense tensor")
    if found.shape != weight.shape:
        shapes = f"{tuple(found.shape)}, expected {tuple(weight.shape)}"
        raise SafsError(f"given mask: {key} has the shape {shapes}")
    found = found.detach().cpu()
    fits = (found == 0) | (found == 1) if is_mask else found.isfinite()
    if not bool(fits.all()):
        wrong, expected = found[~fits][0].item(), "0 and 1" if is_mask else "finite weights"
        raise SafsError(f"given mask: {key} holds {wrong}; expected {expected} only")
    return found != 0


def _tensors(source: MaskSource) -> Mapping[str, Tensor]:
    if isinstance(source, nn.Module):
        return source.state_dict()
    return source if isinstance(source, Mapping) else _load(Path(source))


def _load(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise SafsError(f"given mask: no file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SafsError(f"given mask: {path} cannot be read: {reason}") from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping):
        raise SafsError(f"given mask: {path} holds a {type(content).__name__}, expected tensors")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
