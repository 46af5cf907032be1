"""What an operator is, and the registry of all of them.

SAFS models an activation as ``y = alpha f(beta x)`` (Loni, Mohan, Asadi, Lindauer, "Learning
Activation Functions for Sparse Neural Networks", section 4.1); an operator is the ``f``: one
function and one decorator line, which also has its label and its formula in numpy.

The function's first argument is the input, of any shape; the own parameters of the operator follow
as tensors that broadcast against it. Value and gradient are finite in float32 for every input
between -1e4 and 1e4. torch is imported inside the functions, so that names, labels, formulas and
published parameters can be read where torch is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from safs.errors import SafsError
from safs.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound="Callable[..., Tensor]")
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Operator:
    """An activation's function and what a slot has to know about it.

    Args:
        name: the gene that stands for it in a chromosome.
        label: its name in tables and figures (Table 4's spelling).
        function: ``function(x, **own)`` returns a tensor of the shape of ``x``.
        formula: the same in numpy, to draw it; None if nothing draws it.
        own: published value of each parameter beside alpha and beta.
        per_channel: whether each channel (unit, after a linear layer) has its own set of them.
        trains: whether the own parameters always train. Otherwise they stay at their published
            values unless a run asks for more.
        scaled: whether alpha and beta apply.
    """

    name: str
    label: str
    function: Callable[..., Tensor]
    formula: Callable[..., Any] | None
    own: Mapping[str, float]
    per_channel: bool
    trains: bool
    scaled: bool

    def curve(
        self,
        x: Curve,
        alpha: float = 1.0,
        beta: float = 1.0,
        own: Mapping[str, float | list[float]] = MappingProxyType({}),
    ) -> Curve:
        """``alpha f(beta x)`` in numpy, the shape of ``x``.

        Own parameters that are not given have their published values; of those per channel the
        mean is drawn.

        Raises:
            SafsError: the operator has no formula.
        """
        if self.formula is None:
            raise SafsError(f"operator {self.name!r} has no formula: give its decorator one")
        values = {key: float(np.mean(value)) for key, value in {**self.own, **own}.items()}
        with np.errstate(over="ignore"):  # Symexp leaves the picture, as it should
            drawn: Curve = alpha * self.formula(beta * x, **values)
        return drawn


OPERATORS: Registry[Operator] = Registry("operator")


def operator(
    name: str,
    *,
    label: str,
    formula: Callable[..., Any] | None = None,
    per_channel: bool = False,
    trains: bool = False,
    scaled: bool = True,
    **own: float,
) -> Callable[[F], F]:
    """Register the decorated function as an :class:`Operator`; keywords left over are ``own``."""

    def register(function: F) -> F:
        published = MappingProxyType(dict(own))
        entry = Operator(name, label, function, formula, published, per_channel, trains, scaled)
        OPERATORS.add(name, entry, function)
        return function

    return register


def label(name: str) -> str:
    """An operator's label; its name where it is not registered here."""
    return OPERATORS[name].label if name in OPERATORS else name


def largest_exponent(x: Tensor) -> float:
    """The largest ``e`` with a finite ``exp(e)`` in the type of ``x``, with a unit to spare."""
    import torch

    return math.log(torch.finfo(x.dtype).max) - 1.0


def held(value: Tensor, low: float, high: float) -> Tensor:
    """``value`` clamped to [low, high], with the gradient of an unclamped one.

    A clamp's own gradient is 0 at and beyond its bounds: a parameter that starts at a bound, or is
    driven to one, would never move again.
    """
    return value + (value.clamp(low, high) - value).detach()


def expit(x: Any) -> Any:
    """The logistic function, for formulas."""
    from scipy import special

    return special.expit(x)


def ndtr(x: Any) -> Any:
    """The standard normal distribution function, for formulas."""
    from scipy import special

    return special.ndtr(x)
