"""The unary operators as formulas of numpy, to draw them (Figure 1).

A test holds them equal to the operators that are trained. Own parameters have their published
values where a record gives none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, ndtr

from bench.errors import BenchError

Array = npt.NDArray[np.float64]

FORMULAS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "acon": lambda x, p1=1.0, p2=0.0, b=1.0: (p1 - p2) * x * expit(b * (p1 - p2) * x) + p2 * x,
        "tanhsoft1": lambda x, a=0.87: np.tanh(a * x) * np.logaddexp(0, x),
        "srs": lambda x, a=5.0, b=3.0: x / (x / a + np.exp(-x / b)),
        "symlog": lambda x: np.sign(x) * np.log1p(np.abs(x)),
        "symexp": lambda x: np.sign(x) * np.expm1(np.abs(x)),
        "swish": lambda x: x * expit(x),
        "tanh": np.tanh,
        "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "elu": lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0)),
        "gelu": lambda x: x * ndtr(x),
        "softplus": lambda x: np.logaddexp(0, x),
        "sigmoid": expit,
        "logsigmoid": log_expit,
    }
)
"""f by the operator's name: every one that takes alpha and beta."""


def scaled(
    name: str, x: Array, alpha: float, beta: float, own: Mapping[str, float | list[float]]
) -> Array:
    """y = alpha f(beta x) (Section 4.1), the shape of ``x``; own parameters per channel averaged.

    Raises BenchError if the operator has no formula.
    """
    if name not in FORMULAS:
        raise BenchError(f"operator {name!r} has no formula; expected one of {', '.join(FORMULAS)}")
    values = {key: float(np.mean(value)) for key, value in own.items()}
    with np.errstate(over="ignore"):  # Symexp leaves the picture, as it should
        drawn: Array = alpha * FORMULAS[name](beta * x, **values)
    return drawn
