"""What the functions behind a registry promise, tried before anything is trained with them.

A registry takes any function. One that breaks its promise would end a run in the middle, somewhere
in the training code; here it is named, and what was expected of it. torch is imported inside the
functions.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from safs.errors import SafsError, shown
from safs.operators import OPERATORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from safs.search import Chromosome

LARGEST = 1e4
"""Between minus and plus this, operators and their gradients are finite (:mod:`safs.operators`)."""


def operator(name: str) -> None:
    """Try an operator in a slot.

    Raises:
        SafsError: the parameters of its decorator are not those of its function, it fails, or its
            output is no finite float32 tensor of the input's shape with a finite gradient.
    """
    entry = OPERATORS[name]
    takes = [*inspect.signature(entry.function).parameters][1:]
    odd = {key: value for key, value in entry.own.items() if not isinstance(value, Real)}
    if set(takes) != set(entry.own) or odd:
        raise SafsError(
            f"operator {name!r}: beside label and formula its decorator has "
            f"{_listed(entry.own)}; expected numbers for {_listed(takes)}, which its function takes"
        )
    import torch

    from safs.slots import Slot

    ends = torch.logspace(-3, 4, 15).clamp(max=LARGEST)
    x = torch.cat([-ends.flip(0), torch.zeros(2), ends]).view(2, 4, 2, 2).requires_grad_()
    what = f"operator {name!r}"
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            y = Slot(name, channels=4)(x)
        except Exception as error:
            raise SafsError(_failed(what, error)) from error
        _of_shape(what, "its output", y, x.shape)
        if y.dtype != x.dtype:
            raise SafsError(f"{what}: its output is {y.dtype}; expected {x.dtype}")
        slope = _slope(what, y, x)
    for part, values in (("output", y), ("gradient", slope)):
        if not bool(values.isfinite().all()):
            at = x[~values.isfinite()][0].item()
            raise SafsError(
                f"{what}: its {part} at {at:g} is {values[~values.isfinite()][0].item()}; expected "
                f"finite ones between -{LARGEST:g} and {LARGEST:g}"
            )


def _slope(what: str, y: Tensor, x: Tensor) -> Tensor:
    import torch

    if not y.requires_grad:
        raise SafsError(f"{what}: its output has no gradient; expected one in its input")
    try:
        return torch.autograd.grad(y.sum(), x, materialize_grads=True)[0]
    except RuntimeError as error:
        raise SafsError(_failed(f"{what}: its gradient", error)) from error


def pruner(network: nn.Module, method: str, offered: Mapping[str, Any]) -> None:
    """Let a pruning method score a copy of a network, once.

    Args:
        network: with slots.
        method: a name in :data:`safs.pruning.pruners.PRUNERS`.
        offered: what a method may ask for by name, see :mod:`safs.pruning.pruners`.

    Raises:
        SafsError: it asks for something else, fails, or does not score every weight of the
            prunable layers and no other.
    """
    from safs.networks import prunable
    from safs.pruning.pruners import PRUNERS, needs

    score, what = PRUNERS[method], f"pruning method {method!r}"
    if missing := [name for name in needs(score) if name not in offered]:
        raise SafsError(f"{what} asks for {_listed(missing)}; known: {_listed(offered)}")
    try:
        given = {name: offered[name] for name in needs(score)}
        found = score(copy.deepcopy(network), **given)
        scores = found if isinstance(found, dict) else next(found)
        layers = {str(name) for name in scores}
    except Exception as error:
        raise SafsError(_failed(what, error)) from error
    weights = prunable(network)
    if layers != set(weights):
        odd = min(layers ^ set(weights))
        told = "it has no scores of it" if odd in weights else "no layer that is pruned"
        raise SafsError(f"{what}: {odd!r}: {told}; expected scores of each layer that is")
    for name, weight in weights.items():
        _of_shape(what, f"scores of layer {name!r}", scores[name], weight.shape)


def proposal(algorithm: str, chromosome: object, default: Chromosome, known: Iterable[str]) -> None:
    """Refuse what a search proposes, unless it is a chromosome.

    Args:
        algorithm: the search's name.
        chromosome: what it proposes.
        default: the network's own operators, one per slot.
        known: the candidates.

    Raises:
        SafsError: it is no tuple of one candidate, or operator of the network's own, per slot.
    """
    genes = {*known, *default}
    if not (isinstance(chromosome, tuple) and len(chromosome) == len(default)
            and all(isinstance(gene, str) and gene in genes for gene in chromosome)):  # fmt: skip
        raise SafsError(
            f"search {algorithm!r} proposes {shown(chromosome)}; expected a tuple of "
            f"{len(default)} names, each one of {_listed(sorted(genes))}"
        )


def _of_shape(what: str, part: str, value: object, shape: tuple[int, ...]) -> None:
    import torch

    if not isinstance(value, torch.Tensor):
        raise SafsError(f"{what}: {part}: got {shown(value)}; expected a tensor")
    if value.shape != shape:
        found = tuple(value.shape)
        raise SafsError(f"{what}: {part}: shape {found}; expected {tuple(shape)}")


def _failed(what: str, error: Exception) -> str:
    told = " ".join(str(error).split())
    return f"{what} fails: {type(error).__name__}{': ' * bool(told)}{told}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
