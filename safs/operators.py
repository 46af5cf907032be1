"""The unary operators that a network's activation slots can hold.

SAFS models an activation as ``y = alpha f(beta x)`` (Loni, Mohan, Asadi, Lindauer, "Learning
Activation Functions for Sparse Neural Networks", section 4.1); this module holds the ``f``. The 13
candidates of Table 4 are :data:`CANDIDATES`; the others are defaults of dense networks and
comparisons.

An operator is one function and one decorator line. Its first argument is the input, of any shape;
the own parameters of the operator follow as tensors that broadcast against it. Value and gradient
are finite in float32 for every input between -1e4 and 1e4.

torch is imported inside the functions, so that names, labels and published parameters can be read
where torch is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from safs.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound="Callable[..., Tensor]")

# SRS stays a bounded distance away from its pole and from negative parameters (see `srs`).
_SRS_SMALLEST = 1e-3
_SRS_LARGEST_RATIO = 2.5


@dataclass(frozen=True)
class Operator:
    """An activation's function and what a slot has to know about it.

    Args:
        name: the gene that stands for it in a chromosome.
        label: its name in tables and figures (Table 4's spelling).
        function: ``function(x, **own)`` returns a tensor of the shape of ``x``.
        own: published value of each parameter beside alpha and beta.
        per_channel: whether each channel (unit, after a linear layer) has its own set of them.
        trains: whether the own parameters always train. Otherwise they stay at their published
            values unless a run asks for more.
        scaled: whether alpha and beta apply.
    """

    name: str
    label: str
    function: Callable[..., Tensor]
    own: Mapping[str, float]
    per_channel: bool
    trains: bool
    scaled: bool


OPERATORS: Registry[Operator] = Registry("operator")

CANDIDATES: tuple[str, ...] = (
    "relu6", "acon", "tanhsoft1", "srs", "symlog", "symexp", "swish", "tanh", "hardswish", "elu",
    "gelu", "softplus", "sigmoid",
)  # fmt: skip
"""The search space of stage 1, in the order of Table 4."""


def operator(
    name: str,
    label: str,
    /,
    *,
    per_channel: bool = False,
    trains: bool = False,
    scaled: bool = True,
    **own: float,
) -> Callable[[F], F]:
    """Register the decorated function as an :class:`Operator`; keywords left over are ``own``."""

    def register(function: F) -> F:
        published = MappingProxyType(dict(own))
        entry = Operator(name, label, function, published, per_channel, trains, scaled)
        OPERATORS.add(name, entry)
        return function

    return register


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


@operator("relu6", "ReLU6")
def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    from torch.nn import functional

    return functional.relu6(x)


@operator("acon", "Acon", p1=1.0, p2=0.0, b=1.0)
def acon(x: Tensor, p1: Tensor, p2: Tensor, b: Tensor) -> Tensor:
    """Acon-C, ``(p1 - p2) x sigmoid(b (p1 - p2) x) + p2 x``.

    Ma, Zhang, Liu, Sun, "Activate or Not: Learning Customized Activation". At the published values
    p1 = 1, p2 = 0, b = 1 it equals Swish; it differs only where its own parameters train.
    """
    slope = (p1 - p2) * x
    return slope * (b * slope).sigmoid() + p2 * x


@operator("tanhsoft1", "TanhSoft-1", a=0.87)
def tanhsoft1(x: Tensor, a: Tensor) -> Tensor:
    """``tanh(a x) log(1 + exp(x))``.

    Biswas, Kumar, Banerjee, Pandey, "TanhSoft: Dynamic Trainable Activation Functions for Faster
    Learning and Better Performance".
    """
    from torch.nn import functional

    return (a * x).tanh() * functional.softplus(x)


@operator("srs", "SRS", a=5.0, b=3.0)
def srs(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Soft-Root-Sign, ``x / (x / a + exp(-x / b))``.

    Zhou, Li, Huo, Kung, "Soft-Root-Sign Activation Function". The denominator has a zero where
    ``b >= e a``; trained values are therefore held above 1e-3 and ``b`` below 2.5 ``a``.
    """
    a = held(a, _SRS_SMALLEST, math.inf)
    b = held(b, _SRS_SMALLEST, math.inf).minimum(_SRS_LARGEST_RATIO * a)
    return x / (x / a + (-x / b).clamp(max=largest_exponent(x)).exp())


@operator("symlog", "Symlog")
def symlog(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``.

    Hafner, Pasukonis, Ba, Lillicrap, "Mastering Diverse Domains through World Models".
    """
    # With sign() and abs() the gradient at 0 would be 0 instead of 1. The clamps keep each half off
    # its pole where the other is taken; a clamp at 0 itself would stop the gradient there.
    return x.clamp(min=-0.5).log1p().where(x >= 0, -(-x).clamp(min=-0.5).log1p())


@operator("symexp", "Symexp")
def symexp(x: Tensor) -> Tensor:
    """``sign(x) (exp(|x|) - 1)``, the inverse of Symlog; |x| is clamped against overflow only."""
    limit = largest_exponent(x)
    return x.clamp(max=limit).expm1().where(x >= 0, -(-x).clamp(max=limit).expm1())


@operator("swish", "Swish")
def swish(x: Tensor) -> Tensor:
    """``x sigmoid(x)``; Ramachandran, Zoph, Le, "Searching for Activation Functions"."""
    from torch.nn import functional

    return functional.silu(x)


@operator("tanh", "Tanh")
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return x.tanh()


@operator("hardswish", "HardSwish")
def hardswish(x: Tensor) -> Tensor:
    """``x min(max(x + 3, 0), 6) / 6``."""
    from torch.nn import functional

    return functional.hardswish(x)


@operator("elu", "ELU")
def elu(x: Tensor) -> Tensor:
    """``x`` above 0, ``exp(x) - 1`` below."""
    from torch.nn import functional

    return functional.elu(x)


@operator("gelu", "GELU")
def gelu(x: Tensor) -> Tensor:
    """``x`` times the standard normal distribution function of ``x`` (exact, not by tanh)."""
    from torch.nn import functional

    return functional.gelu(x)


@operator("softplus", "Softplus")
def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    from torch.nn import functional

    return functional.softplus(x)


@operator("sigmoid", "LogisticSigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``, what Table 4 lists as LogisticSigmoid."""
    return x.sigmoid()


@operator("relu", "ReLU")
def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``: the default of the dense networks, not a candidate."""
    return x.relu()


@operator("logsigmoid", "LogSigmoid")
def logsigmoid(x: Tensor) -> Tensor:
    """``-log(1 + exp(-x))``: what the released code searches as LogisticSigmoid."""
    from torch.nn import functional

    return functional.logsigmoid(x)


@operator(
    "srelu", "SReLU", per_channel=True, trains=True, scaled=False,
    t_left=0.0, a_left=0.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu(x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor) -> Tensor:
    """S-shaped ReLU: the identity between two thresholds and a line of its own beyond each.

    Jin et al., "Deep Learning with S-shaped Rectified Linear Activation Units". The published start
    of ``t_right`` comes from data; 1 stands in until it is set.
    """
    right = t_right + a_right * (x - t_right)
    left = t_left + a_left * (x - t_left)
    return right.where(x >= t_right, left.where(x <= t_left, x))


@operator(
    "srelu_layer", "SReLU per layer", trains=True, scaled=False,
    t_left=0.0, a_left=0.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu_layer(
    x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor
) -> Tensor:
    """SReLU with one set of its four parameters per layer instead of one per channel."""
    return srelu(x, t_left, a_left, t_right, a_right)


@operator(
    "srelu_released", "SReLU as released", trains=True, scaled=False,
    t_left=1.0, a_left=1.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu_released(
    x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor
) -> Tensor:
    """What the code released with SAFS trains as SReLU: per layer, without the offsets.

    Its lines start at 0 at their thresholds instead of continuing the identity, and all parameters
    start at 1, where it is the linear function ``x - 1``.
    """
    right, left = a_right * (x - t_right), a_left * (x - t_left)
    return right.where(x >= t_right, left.where(x <= t_left, x))


@operator("prelu", "PReLU", trains=True, scaled=False, slope=0.25)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` above 0, ``slope x`` below; He, Zhang, Ren, Sun, "Delving Deep into Rectifiers"."""
    return x.where(x > 0, slope * x)


@operator("falu", "FALU", trains=True, scaled=False, order=0.0, steepness=1.0)
def falu(x: Tensor, order: Tensor, steepness: Tensor) -> Tensor:
    """Fractional derivative of ``x sigmoid(steepness x)`` of an order between 0 and 2.

    Zamora, Rhodes, Nachman, "Fractional Adaptive Linear Units". Orders between the integers are
    interpolated as in the paper; ``order`` is held in [0, 2] and ``steepness`` (its beta) in
    [1, 10]. It starts as Swish: order 0, steepness 1.
    """
    order = held(order, 0.0, 2.0)
    gate = (held(steepness, 1.0, 10.0) * x).sigmoid()
    zeroth = x * gate
    first = zeroth + gate * (1 - zeroth)
    below = zeroth + order * gate * (1 - zeroth)
    above = first + (order - 1) * gate * (1 - 2 * first)
    return below.where(order <= 1, above)
