"""Masks from elsewhere: as they are, as zeros of a checkpoint, or from torch.nn.utils.prune."""

from __future__ import annotations

from collections.abc import Mapping
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
    pruned). In a mask, what is not 0 survives.

    Args:
        source: tensors by name; a module, which stands for its state; or a file of tensors by name,
            safetensors by its ending or else what ``torch.save`` wrote (optionally under the key
            ``state_dict``), read without running any code in it.
        network: says which layers there are, and their shapes.

    Raises:
        SafsError: a layer is missing or of another shape, or the file cannot be read.
    """
    tensors = _tensors(source)
    return {name: _layer(name, weight, tensors) for name, weight in prunable(network).items()}


def _layer(name: str, weight: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    for key in (f"{name}.weight_mask", name, f"{name}.weight"):
        if key in tensors:
            found = tensors[key]
            if found.shape != weight.shape:
                shapes = f"{tuple(found.shape)}, expected {tuple(weight.shape)}"
                raise SafsError(f"given mask: {key} has the shape {shapes}")
            return (found.detach() != 0).cpu()
    raise SafsError(f"given mask: nothing for layer {name!r}; found {', '.join(tensors) or 'none'}")


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
