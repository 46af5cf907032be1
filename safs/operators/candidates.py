"""The 13 candidates of Table 4, in its order (:data:`safs.settings.CANDIDATES`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from safs.operators.base import expit, held, largest_exponent, ndtr, operator

if TYPE_CHECKING:
    from torch import Tensor

# SRS stays away from parameters with which it has a pole, and from negative ones (see `srs`).
_SRS_SMALLEST = 1e-3
_SRS_LARGEST_RATIO = 2.5


@operator("relu6", label="ReLU6", formula=lambda x: np.clip(x, 0, 6))
def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    from torch.nn import functional

    return functional.relu6(x)


@operator(
    "acon", label="Acon",
    formula=lambda x, p1, p2, b: (p1 - p2) * x * expit(b * (p1 - p2) * x) + p2 * x,
    p1=1.0, p2=0.0, b=1.0,
)  # fmt: skip
def acon(x: Tensor, p1: Tensor, p2: Tensor, b: Tensor) -> Tensor:
    """Acon-C, ``(p1 - p2) x sigmoid(b (p1 - p2) x) + p2 x``.

    Ma, Zhang, Liu, Sun, "Activate or Not: Learning Customized Activation". At the published values
    p1 = 1, p2 = 0, b = 1 it equals Swish; it differs only where its own parameters train.
    """
    slope = (p1 - p2) * x
    return slope * (b * slope).sigmoid() + p2 * x


@operator(
    "tanhsoft1", label="TanhSoft-1",
    formula=lambda x, a: np.tanh(a * x) * np.logaddexp(0, x),
    a=0.87,
)  # fmt: skip
def tanhsoft1(x: Tensor, a: Tensor) -> Tensor:
    """``tanh(a x) log(1 + exp(x))``.

    Biswas, Kumar, Banerjee, Pandey, "TanhSoft: Dynamic Trainable Activation Functions for Faster
    Learning and Better Performance".
    """
    from torch.nn import functional

    return (a * x).tanh() * functional.softplus(x)


@operator(
    "srs", label="SRS",
    formula=lambda x, a, b: x / (x / a + np.exp(-x / b)),
    a=5.0, b=3.0,
)  # fmt: skip
def srs(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Soft-Root-Sign, ``x / (x / a + exp(-x / b))``.

    Zhou, Li, Huo, Kung, "Soft-Root-Sign Activation Function". The denominator's minimum over x is
    ``(1 - log(b / a)) b / a``, which has a zero where ``b >= e a`` and nowhere else; trained values
    are therefore held above 1e-3 and ``b`` below 2.5 ``a``.
    """
    a = held(a, _SRS_SMALLEST, math.inf)
    b = held(b, _SRS_SMALLEST, math.inf).minimum(_SRS_LARGEST_RATIO * a)
    return x / (x / a + (-x / b).clamp(max=largest_exponent(x)).exp())


@operator("symlog", label="Symlog", formula=lambda x: np.sign(x) * np.log1p(np.abs(x)))
def symlog(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``.

    Hafner, Pasukonis, Ba, Lillicrap, "Mastering Diverse Domains through World Models".
    """
    # With sign() and abs() the gradient at 0 would be 0 instead of 1. The clamps keep each half off
    # its pole where the other is taken; a clamp at 0 itself would stop the gradient there.
    return x.clamp(min=-0.5).log1p().where(x >= 0, -(-x).clamp(min=-0.5).log1p())


@operator("symexp", label="Symexp", formula=lambda x: np.sign(x) * np.expm1(np.abs(x)))
def symexp(x: Tensor) -> Tensor:
    """``sign(x) (exp(|x|) - 1)``, the inverse of Symlog; ``|x|`` is clamped for overflow only."""
    limit = largest_exponent(x)
    return x.clamp(max=limit).expm1().where(x >= 0, -(-x).clamp(max=limit).expm1())


@operator("swish", label="Swish", formula=lambda x: x * expit(x))
def swish(x: Tensor) -> Tensor:
    """``x sigmoid(x)``; Ramachandran, Zoph, Le, "Searching for Activation Functions"."""
    from torch.nn import functional

    return functional.silu(x)


@operator("tanh", label="Tanh", formula=np.tanh)
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return x.tanh()


@operator("hardswish", label="HardSwish", formula=lambda x: x * np.clip(x + 3, 0, 6) / 6)
def hardswish(x: Tensor) -> Tensor:
    """``x min(max(x + 3, 0), 6) / 6``."""
    from torch.nn import functional

    return functional.hardswish(x)


@operator("elu", label="ELU", formula=lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0)))
def elu(x: Tensor) -> Tensor:
    """``x`` above 0, ``exp(x) - 1`` below."""
    from torch.nn import functional

    return functional.elu(x)


@operator("gelu", label="GELU", formula=lambda x: x * ndtr(x))
def gelu(x: Tensor) -> Tensor:
    """``x`` times the standard normal distribution function of ``x`` (exact, not by tanh)."""
    from torch.nn import functional

    return functional.gelu(x)


@operator("softplus", label="Softplus", formula=lambda x: np.logaddexp(0, x))
def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    from torch.nn import functional

    return functional.softplus(x)


@operator("sigmoid", label="LogisticSigmoid", formula=expit)
def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``, what Table 4 lists as LogisticSigmoid."""
    return x.sigmoid()
