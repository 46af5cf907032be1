"""Operators that are no candidates: defaults, readings of the paper, and what it compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from safs.operators.base import expit, held, operator

if TYPE_CHECKING:
    from torch import Tensor


def s_shape(x: Any, t_left: float, a_left: float, t_right: float, a_right: float) -> Any:
    """SReLU's formula."""
    right, left = t_right + a_right * (x - t_right), t_left + a_left * (x - t_left)
    return np.where(x >= t_right, right, np.where(x <= t_left, left, x))


def clipped_sum(x: Any, t_left: float, a_left: float, t_right: float, a_right: float) -> Any:
    """The formula of the released code's SReLU."""
    below, above = np.maximum(t_left - x, 0), np.maximum(x - t_right, 0)
    return -a_left * below + np.maximum(x - t_left, 0) - above + a_right * above


def fractional(x: Any, order: float, steepness: float) -> Any:
    """FALU's formula, for orders and steepnesses within their bounds."""
    gate = expit(steepness * x)
    zeroth = x * gate
    first = zeroth + gate * (1 - zeroth)
    if order <= 1:
        return zeroth + order * gate * (1 - zeroth)
    return first + (order - 1) * gate * (1 - 2 * first)


@operator("relu", label="ReLU", formula=lambda x: np.maximum(x, 0))
def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``: the default of the dense networks, not a candidate."""
    return x.relu()


@operator("logsigmoid", label="LogSigmoid", formula=lambda x: -np.logaddexp(0, -x))
def logsigmoid(x: Tensor) -> Tensor:
    """``-log(1 + exp(-x))``: what the released code searches as LogisticSigmoid."""
    from torch.nn import functional

    return functional.logsigmoid(x)


@operator(
    "srelu", label="SReLU", formula=s_shape,
    per_channel=True, trains=True, scaled=False, t_left=0.0, a_left=0.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu(x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor) -> Tensor:
    """S-shaped ReLU: the identity between two thresholds and a line of its own beyond each.

    Jin et al., "Deep Learning with S-shaped Rectified Linear Activation Units". The published start
    of ``t_right`` comes from data; 1 stands in until it is set. They first train a leaky ReLU, with
    all four parameters frozen; here the left slope starts at 0, as a ReLU's, and nothing is frozen.
    """
    right = t_right + a_right * (x - t_right)
    left = t_left + a_left * (x - t_left)
    return right.where(x >= t_right, left.where(x <= t_left, x))


@operator(
    "srelu_layer", label="SReLU per layer", formula=s_shape,
    trains=True, scaled=False, t_left=0.0, a_left=0.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu_layer(
    x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor
) -> Tensor:
    """SReLU with one set of its four parameters per layer instead of one per channel."""
    return srelu(x, t_left, a_left, t_right, a_right)


@operator(
    "srelu_released", label="SReLU as released", formula=clipped_sum,
    trains=True, scaled=False, t_left=1.0, a_left=1.0, t_right=1.0, a_right=1.0,
)  # fmt: skip
def srelu_released(
    x: Tensor, t_left: Tensor, a_left: Tensor, t_right: Tensor, a_right: Tensor
) -> Tensor:
    """What the code released with SAFS trains as SReLU: a sum of four clipped lines, per layer.

    Where ``t_left <= t_right`` it is Jin's function minus ``t_left``, continuous as that one is;
    where the thresholds have crossed, the slope between them is ``a_left + a_right - 1``. All
    parameters start at 1, where it is the linear function ``x - 1``.
    """
    below, above = (t_left - x).relu(), (x - t_right).relu()
    return -a_left * below + (x - t_left).relu() - above + a_right * above


@operator(
    "prelu", label="PReLU",
    formula=lambda x, slope: np.where(x > 0, x, slope * x),
    trains=True, scaled=False, slope=0.25,
)  # fmt: skip
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` above 0, ``slope x`` below; He, Zhang, Ren, Sun, "Delving Deep into Rectifiers"."""
    return x.where(x > 0, slope * x)


@operator(
    "falu", label="FALU", formula=fractional, trains=True, scaled=False, order=0.0, steepness=1.0
)  # fmt: skip
def falu(x: Tensor, order: Tensor, steepness: Tensor) -> Tensor:
    """Fractional derivative of ``x sigmoid(steepness x)`` of an order between 0 and 2.

    Zamora, Rhodes, Nachman, "Fractional Adaptive Linear Units". Orders between the integers are
    interpolated as in the paper; ``order`` is held in [0, 2] and ``steepness`` (its beta) in
    [1, 10]. The gate sees ``steepness x``, the factor before it is ``x`` alone; the released code
    multiplies by ``steepness x`` and starts at order 1. Here it starts as Swish: order 0,
    steepness 1.
    """
    order = held(order, 0.0, 2.0)
    gate = (held(steepness, 1.0, 10.0) * x).sigmoid()
    zeroth = x * gate
    first = zeroth + gate * (1 - zeroth)
    below = zeroth + order * gate * (1 - zeroth)
    above = first + (order - 1) * gate * (1 - 2 * first)
    return below.where(order <= 1, above)
