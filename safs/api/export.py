"""A trained network for use elsewhere: safetensors, and ONNX that onnxruntime has checked.

In ONNX each slot is plain arithmetic, ``alpha f(beta x)`` with the learned numbers as constants;
whoever runs it needs neither this package nor torch. Pruned weights are zeros in dense tensors.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from safs.errors import SafsError, shown
from safs.files import replacing

WEIGHTS, ONNX = "model.safetensors", "model.onnx"
TOLERANCE = 1e-5
"""Largest difference between onnxruntime and torch, relative to the largest output or 1."""

_BATCHES = (1, 5)


@dataclass(frozen=True)
class Exported:
    """What was written, and how far onnxruntime is from torch.

    Attributes:
        difference: largest absolute difference of an output, over the largest output or 1.
    """

    weights: Path
    onnx: Path
    difference: float


def export(
    network: nn.Module,
    shape: tuple[int, ...],
    folder: str | Path,
    example: torch.Tensor | None = None,
) -> Exported:
    """Write ``model.safetensors`` and ``model.onnx`` of a network in evaluation mode.

    Args:
        network: a trained network with slots; it stays as it is.
        shape: of one input, without the batch, e.g. ``(channels, height, width)``.
        folder: made where it does not exist.
        example: inputs to compare on, see :func:`to_onnx`.

    Raises:
        SafsError: see :func:`to_onnx`.
    """
    _require()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    weights, onnx = place / WEIGHTS, place / ONNX
    save_state(network, weights)
    return Exported(weights, onnx, to_onnx(network, shape, onnx, example))


def save_state(network: nn.Module, path: str | Path) -> None:
    """Write the state of a network as safetensors, atomically."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(state_of(network))


def state_of(network: nn.Module) -> bytes:
    """The state of a network as safetensors."""
    from safetensors.torch import save

    state = network.state_dict()
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    return bytes(save(plain))


def to_onnx(
    network: nn.Module,
    shape: tuple[int, ...],
    path: str | Path,
    example: torch.Tensor | None = None,
) -> float:
    """Write a network as ONNX, input ``input`` ``[batch, *shape]`` and output ``logits``.

    The batch is free. The file is run by onnxruntime and compared with torch.

    Args:
        network: stays as it is.
        shape: of one input.
        path: of the file.
        example: inputs ``[n, *shape]`` on which the two are compared; None is noise, which a
            network for something else (tokens, say) does not take.

    Returns:
        The largest difference, see :data:`TOLERANCE`.

    Raises:
        SafsError: the optional packages are missing, torch cannot export the network, or
            onnxruntime cannot run it or computes something else; ``path`` is as it was then.
    """
    if not (isinstance(shape, tuple | list) and all(type(side) is int for side in shape)):
        raise SafsError(f"shape: got {shown(shape)}, expected that of one input, (3, 32, 32) say")
    _require()
    still = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    name = type(network).__name__
    traced = torch.zeros(2, *shape)
    if example is not None:
        traced = torch.from_numpy(_repeated(example, 2, shape))
    with replacing(Path(path)) as temporary:
        with _quietly(), _refusing(f"torch cannot export {name}"):
            torch.onnx.export(
                still,
                (traced,),
                str(temporary),
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        with _refusing(f"onnxruntime cannot run {name}"):
            differs = compare(still, shape, temporary, example)
        if not differs <= TOLERANCE:
            raise SafsError(f"onnxruntime and torch differ by {differs:.1e}, more than {TOLERANCE}")
    return differs


def _repeated(example: torch.Tensor, batch: int, shape: tuple[int, ...]) -> np.ndarray:
    """A batch of so many of the example's inputs, one after the other and again."""
    if list(example.shape[1:]) != list(shape) or not len(example):
        found = f"example: got {list(example.shape)}"
        raise SafsError(f"{found}, expected inputs of the shape {list(shape)}")
    rows = torch.arange(batch) % len(example)
    return example.detach().cpu().float()[rows].numpy()


@contextlib.contextmanager
def _refusing(words: str) -> Iterator[None]:
    """Whatever a library raises, as one line."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SafsError(f"{words}: {reason}") from error


@torch.no_grad()
def compare(
    network: nn.Module,
    shape: tuple[int, ...],
    path: str | Path,
    example: torch.Tensor | None = None,
) -> float:
    """The largest difference between an ONNX file in onnxruntime and a network, see TOLERANCE."""
    onnxruntime = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rng = np.random.default_rng(0)
    differences = []
    for batch in _BATCHES:
        x = rng.standard_normal((batch, *shape), dtype=np.float32)
        if example is not None:
            x = _repeated(example, batch, shape)
        expected = network(torch.from_numpy(x)).numpy()
        found: Any = session.run(None, {name: x})[0]
        if found.shape != expected.shape:
            return float("inf")
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        differences.append(np.abs(found - expected).max(initial=0.0) / scale)
    return float(np.max(differences))


def _require() -> None:
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            import_module(package)
    except ImportError as error:
        needed = "pip install 'safs-bench[export]'"
        raise SafsError(f"ONNX export needs the package {error.name}: {needed}") from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """torch.onnx narrates its progress and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
