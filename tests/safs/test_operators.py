"""Operators against closed forms, in value and gradient, and at the ends of float32."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from safs.errors import SafsError, UnknownName
from safs.operators import OPERATORS, Operator, operator
from safs.settings import CANDIDATES

TABLE_4 = (
    "ReLU6", "Acon", "TanhSoft-1", "SRS", "Symlog", "Symexp", "Swish", "Tanh", "HardSwish", "ELU",
    "GELU", "Softplus", "LogisticSigmoid",
)  # fmt: skip

# No point lies on a kink (0, +-3, 6, the thresholds of SReLU).
POINTS = np.array([-17.3, -5.2, -2.9, -1.1, -0.4, -1e-3, 1e-3, 0.3, 0.9, 1.4, 3.3, 5.7, 7.1, 16.0])

# Each value and derivative is written out by hand in scalar float64, sharing nothing with torch.
Closed = Callable[[float], tuple[float, float]]
Own = dict[str, Tensor]


def sig(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _tanhsoft1(x: float) -> tuple[float, float]:
    t, s = math.tanh(0.87 * x), math.log(1 + math.exp(x))
    return t * s, 0.87 * (1 - t * t) * s + t * sig(x)


def _srs(x: float) -> tuple[float, float]:
    d = x / 5 + math.exp(-x / 3)
    return x / d, (d - x * (1 / 5 - math.exp(-x / 3) / 3)) / d**2


def _swish(x: float) -> tuple[float, float]:
    return x * sig(x), sig(x) + x * sig(x) * (1 - sig(x))


def _hardswish(x: float) -> tuple[float, float]:
    if abs(x) >= 3:
        return (x, 1.0) if x > 0 else (0.0, 0.0)
    return x * (x + 3) / 6, (2 * x + 3) / 6


def _gelu(x: float) -> tuple[float, float]:
    cdf = (1 + math.erf(x / math.sqrt(2))) / 2
    return x * cdf, cdf + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


CLOSED: dict[str, Closed] = {
    "relu6": lambda x: (min(max(x, 0.0), 6.0), float(0 < x < 6)),
    "acon": _swish,
    "tanhsoft1": _tanhsoft1,
    "srs": _srs,
    "symlog": lambda x: (math.copysign(math.log1p(abs(x)), x), 1 / (1 + abs(x))),
    "symexp": lambda x: (math.copysign(math.exp(abs(x)) - 1, x), math.exp(abs(x))),
    "swish": _swish,
    "tanh": lambda x: (math.tanh(x), 1 / math.cosh(x) ** 2),
    "hardswish": _hardswish,
    "elu": lambda x: (x, 1.0) if x > 0 else (math.exp(x) - 1, math.exp(x)),
    "gelu": _gelu,
    "softplus": lambda x: (math.log(1 + math.exp(x)), sig(x)),
    "sigmoid": lambda x: (sig(x), sig(x) * sig(-x)),
    "relu": lambda x: (max(x, 0.0), float(x > 0)),
    "logsigmoid": lambda x: (-math.log(1 + math.exp(-x)), sig(-x)),
    "srelu": lambda x: (max(x, 0.0), float(x > 0)),
    "srelu_layer": lambda x: (max(x, 0.0), float(x > 0)),
    "srelu_released": lambda x: (x - 1.0, 1.0),
    "prelu": lambda x: (x, 1.0) if x > 0 else (0.25 * x, 0.25),
    "falu": _swish,
}

# Every registered operator, so that an added one is covered the day it is added.
every_operator = pytest.mark.parametrize("entry", OPERATORS.values(), ids=lambda o: o.name)


def own(entry: Operator, /, dtype: torch.dtype = torch.float64, **other: float) -> Own:
    return {n: torch.tensor(v, dtype=dtype) for n, v in {**entry.own, **other}.items()}


def value_and_slope(entry: Operator, x: Tensor, **other: float) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = entry.function(x, **own(entry, x.dtype, **other))
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def points() -> Tensor:
    return torch.from_numpy(POINTS)


def test_candidates_are_table_4_in_its_order() -> None:
    assert tuple(OPERATORS[name].label for name in CANDIDATES) == TABLE_4


def test_names_and_labels_are_unique_and_published_values_are_as_published() -> None:
    assert len({o.label for o in OPERATORS.values()}) == len(OPERATORS)
    assert all(name == entry.name for name, entry in OPERATORS.items())
    assert dict(OPERATORS["acon"].own) == {"p1": 1, "p2": 0, "b": 1}
    assert dict(OPERATORS["srs"].own) == {"a": 5, "b": 3}
    assert dict(OPERATORS["tanhsoft1"].own) == {"a": 0.87}


def test_only_the_comparisons_train_by_themselves_and_are_not_scaled() -> None:
    comparisons = {"srelu", "srelu_layer", "srelu_released", "prelu", "falu"}
    assert {n for n, o in OPERATORS.items() if o.trains} == comparisons
    assert {n for n, o in OPERATORS.items() if not o.scaled} == comparisons
    assert {n for n, o in OPERATORS.items() if o.per_channel} == {"srelu"}


@pytest.mark.parametrize("name", CLOSED)
def test_value_and_gradient_match_the_closed_form(name: str) -> None:
    value, slope = value_and_slope(OPERATORS[name], points())
    expected = np.array([CLOSED[name](float(x)) for x in POINTS]).T
    np.testing.assert_allclose(value, expected[0], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-7, atol=1e-12)


@every_operator
def test_gradcheck_with_own_parameters(entry: Operator) -> None:
    # Away from bounds of own parameters, where no derivative exists.
    inside = {"order": 0.4, "steepness": 1.7, "t_left": -0.7, "a_left": 0.3}
    start = {n: inside.get(n, v) for n, v in entry.own.items()}
    inputs = [t.requires_grad_() for t in (points(), *own(entry, torch.float64, **start).values())]

    def ordered(x: Tensor, *values: Tensor) -> Tensor:
        return entry.function(x, **dict(zip(entry.own, values, strict=True)))

    assert torch.autograd.gradcheck(ordered, inputs, rtol=1e-3, atol=1e-5)


@every_operator
def test_finite_in_value_and_gradient_far_out_in_float32(entry: Operator) -> None:
    magnitudes = torch.logspace(-6, 4, 400)
    x = torch.cat([-magnitudes, torch.zeros(1), magnitudes]).requires_grad_()
    values = {n: v.requires_grad_() for n, v in own(entry, torch.float32).items()}
    y = entry.function(x, **values)
    slopes = torch.autograd.grad(y.sum() * 1e-6, [x, *values.values()])
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes)


@every_operator
def test_scaling_by_alpha_and_beta(entry: Operator) -> None:
    alpha, beta = torch.tensor([1.7, -0.4], dtype=torch.float64).requires_grad_()
    x = points().clamp(-9, 9).requires_grad_()
    y = alpha * entry.function(beta * x, **own(entry))
    by_x, by_alpha, by_beta = torch.autograd.grad(y.sum(), [x, alpha, beta])
    value, slope = value_and_slope(entry, (beta * x).detach())
    torch.testing.assert_close(by_x, alpha.detach() * beta.detach() * slope)
    torch.testing.assert_close(by_alpha, value.sum())
    torch.testing.assert_close(by_beta, (alpha * x * slope).sum().detach())


@every_operator
def test_own_parameters_broadcast_per_channel(entry: Operator) -> None:
    x = torch.linspace(-3, 3, 2 * 3 * 4 * 4, dtype=torch.float64).reshape(2, 3, 4, 4)
    per_channel = {n: v.expand(1, 3, 1, 1) for n, v in own(entry).items()}
    torch.testing.assert_close(entry.function(x, **per_channel), entry.function(x, **own(entry)))


@pytest.mark.parametrize("name", ["symlog", "symexp", "swish", "srs", "tanh"])
def test_gradient_at_zero(name: str) -> None:
    slope = value_and_slope(OPERATORS[name], torch.zeros(1, dtype=torch.float64))[1]
    assert slope.item() == pytest.approx({"swish": 0.5}.get(name, 1.0))


def test_symexp_is_clamped_against_overflow_only() -> None:
    x = torch.tensor([87.0, -87.0])
    torch.testing.assert_close(OPERATORS["symexp"].function(x), torch.sign(x) * math.expm1(87.0))


@pytest.mark.parametrize("a, b", [(-4.0, 3.0), (1.0, 9.0), (0.0, 0.0), (2.0, -1.0)])
def test_srs_has_no_pole_wherever_its_parameters_are_driven(a: float, b: float) -> None:
    x = torch.linspace(-40, 40, 4001, dtype=torch.float64)
    value, _ = value_and_slope(OPERATORS["srs"], x, a=a, b=b)
    assert value.isfinite().all()
    assert (torch.sign(value) * torch.sign(x) >= 0).all()


@pytest.mark.parametrize("a, b", [(1.0, 1.0), (5.0, 3.0), (2.0, 5.0), (1.0, math.e), (1.0, 4.0)])
def test_srs_has_a_pole_only_where_b_is_e_times_a_or_more(a: float, b: float) -> None:
    """Its smallest denominator is (1 - log(b / a)) b / a: 1 where both are 1."""
    x = np.linspace(-30, 30, 600_001)
    smallest = (x / a + np.exp(-x / b)).min()
    assert smallest == pytest.approx((1 - math.log(b / a)) * b / a, abs=1e-6)
    assert bool(smallest > 1e-6) is (b < math.e * a)


def test_srelu_has_three_pieces() -> None:
    x = torch.tensor([-3.0, -1.0, 0.5, 2.0, 4.0], dtype=torch.float64)
    pieces = {"t_left": -2.0, "a_left": 0.1, "t_right": 1.0, "a_right": 0.5}
    value, slope = value_and_slope(OPERATORS["srelu"], x, **pieces)
    np.testing.assert_allclose(value, [-2.1, -1.0, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(slope, [0.1, 1.0, 1.0, 0.5, 0.5])


ORDERED = {"t_left": -0.5, "a_left": 0.2, "t_right": 1.5, "a_right": 0.6}


def test_srelu_as_released_is_jins_function_without_its_left_threshold() -> None:
    """In scalars: two lines of slopes of their own that go on where the identity ends."""
    x = points()
    value, slope = value_and_slope(OPERATORS["srelu_released"], x, **ORDERED)
    lines = {
        -0.5: lambda u: (0.2 * (u + 0.5), 0.2),
        1.5: lambda u: (u + 0.5, 1.0),
        math.inf: lambda u: (2.0 + 0.6 * (u - 1.5), 0.6),
    }
    expected = [next(line(u) for end, line in lines.items() if u < end) for u in x.tolist()]
    np.testing.assert_allclose(value, np.array(expected)[:, 0])
    np.testing.assert_allclose(slope, np.array(expected)[:, 1])
    jin, _ = value_and_slope(OPERATORS["srelu"], x, **ORDERED)
    torch.testing.assert_close(value, jin + 0.5)


def test_srelu_as_released_bends_where_its_thresholds_have_crossed() -> None:
    crossed = {"t_left": 1.2, "a_left": 0.3, "t_right": 0.5, "a_right": 0.8}
    x = torch.tensor([0.1, 0.8, 2.2], dtype=torch.float64)
    value, slope = value_and_slope(OPERATORS["srelu_released"], x, **crossed)
    np.testing.assert_allclose(slope, [0.3, 0.3 + 0.8 - 1, 0.8])
    np.testing.assert_allclose(value, [-0.33, -0.12 - 0.3 + 0.24, 1.0 - 1.7 + 0.8 * 1.7])


@pytest.mark.parametrize("name", ["srelu", "srelu_layer", "srelu_released"])
def test_the_formula_that_is_drawn_is_the_function(name: str) -> None:
    x, entry = points(), OPERATORS[name]
    value, _ = value_and_slope(entry, x, **ORDERED)
    np.testing.assert_allclose(entry.curve(x.numpy(), own=ORDERED), value)


@pytest.mark.parametrize("order, derivative", [(0, 0), (1, 1), (2, 2), (2.7, 2), (-0.3, 0)])
def test_falu_at_whole_orders(order: float, derivative: int) -> None:
    x = points().clamp(-9, 9)
    g, s = x * x.sigmoid(), x.sigmoid()
    h = g + s * (1 - g)
    expected = (g, h, h + s * (1 - 2 * h))[derivative]
    torch.testing.assert_close(value_and_slope(OPERATORS["falu"], x, order=order)[0], expected)


def test_falu_is_continuous_in_its_order() -> None:
    below, _ = value_and_slope(OPERATORS["falu"], points(), order=1.0)
    above, _ = value_and_slope(OPERATORS["falu"], points(), order=1.0 + 1e-12)
    torch.testing.assert_close(below, above)


def test_parameters_at_or_beyond_a_bound_still_have_a_gradient() -> None:
    for order, steepness in ((0.0, 1.0), (-0.2, 0.4), (2.3, 11.0)):
        values = own(OPERATORS["falu"], torch.float64, order=order, steepness=steepness)
        inputs = [v.requires_grad_() for v in values.values()]
        slopes = torch.autograd.grad(OPERATORS["falu"].function(points(), **values).sum(), inputs)
        assert all(slope != 0 for slope in slopes)


def test_an_operator_is_one_function_and_one_decorator_line() -> None:
    @operator("cube", label="Cube", gain=2.0)
    def cube(x: Tensor, gain: Tensor) -> Tensor:
        return gain * x**3

    try:
        value, slope = value_and_slope(OPERATORS["cube"], torch.tensor([2.0]))
        assert (value.item(), slope.item()) == (16.0, 24.0)
    finally:
        OPERATORS.remove("cube")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        OPERATORS["swsh"]
    message = str(caught.value)
    assert "did you mean 'swish'?" in message
    assert all(name in message for name in OPERATORS)


def test_names_are_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from safs.operators import OPERATORS\n"
        "from safs.settings import CANDIDATES\n"
        "assert len(CANDIDATES) == 13 and OPERATORS['srs'].label == 'SRS'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_drawn_curve_has_the_learned_parameters():
    """Those of a channel each as their mean; what is not given has its published value."""
    x = np.linspace(-2, 2, 9)
    drawn = OPERATORS["srs"].curve(x, own={"a": 2.0, "b": [1.0, 3.0]})
    assert drawn == pytest.approx(x / (x / 2 + np.exp(-x / 2)))
    assert OPERATORS["srs"].curve(x, own={"a": 2.0}) == pytest.approx(x / (x / 2 + np.exp(-x / 3)))
    with pytest.raises(SafsError, match="'srs' has no formula"):
        replace(OPERATORS["srs"], formula=None).curve(x)
