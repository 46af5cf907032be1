"""The vectorised operators against safs.operators.base in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
from kernels_reference import KNOWN

from safs.kernels import structures
from safs.kernels.plan import CODES
from safs.operators import OPERATORS
from safs.settings import CANDIDATES

every_operator = pytest.mark.parametrize("name", KNOWN)

# Values of own parameters off their published ones, inside their bounds.
OTHER = {
    "acon": {"p1": 1.3, "p2": -0.2, "b": 0.7},
    "tanhsoft1": {"a": 1.4},
    "srs": {"a": 3.0, "b": 4.0},
    "srelu": {"t_left": -0.7, "a_left": 0.3, "t_right": 0.9, "a_right": 1.4},
    "srelu_released": {"t_left": -0.6, "a_left": 0.2, "t_right": 1.3, "a_right": 0.8},
    "prelu": {"slope": -0.3},
    "falu": {"order": 1.3, "steepness": 1.7},
}
CROSSED = {"t_left": 1.2, "a_left": 0.3, "t_right": 0.5, "a_right": 0.8}


def points() -> np.ndarray:
    """Small, middling and large arguments; none on a kink."""
    small = np.logspace(-6, 0, 400)
    grid = np.concatenate([small, -small, np.linspace(-30, 30, 4008), [-1e4, -90, 90, 1e4]])
    thresholds = [*OTHER["srelu"].values(), *OTHER["srelu_released"].values(), *CROSSED.values()]
    kinks = np.array([0, 3, -3, 6, 1, *thresholds])
    return grid[np.abs(grid[:, None] - kinks).min(1) > 1e-7].astype(np.float32)


def evaluate(name: str, own: list[float], x: np.ndarray) -> tuple[np.ndarray, ...]:
    x = np.ascontiguousarray(np.pad(x, (0, -len(x) % 8), mode="edge"))
    values, slopes = np.empty_like(x), np.empty_like(x)
    parameters = np.array([*own, 0, 0, 0, 0], np.float32)
    gradients = np.zeros((4, len(x)), np.float32)
    arrays = (parameters, x, values, slopes, gradients)
    own_, x_, f_, d_, g_ = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
    structures.library().safs_operator(
        ctypes.c_int64(CODES.index(name)), own_, x_, ctypes.c_int64(len(x)), f_, d_, g_
    )
    return values, slopes, gradients[: len(own)]


def reference(name: str, own: list[float], x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Derivatives by autograd in float64. Bounds are of the free parameters: none is at one."""
    u = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    held = [torch.full_like(u, v, requires_grad=True) for v in np.float32(own).tolist()]
    y = OPERATORS[name].function(u, **dict(zip(OPERATORS[name].own, held, strict=True)))
    y.sum().backward()
    return y.detach().numpy(), u.grad.numpy(), np.array([h.grad.numpy() for h in held])


@pytest.mark.parametrize(
    ("name", "values"),
    [*((name, OPERATORS[name].own) for name in KNOWN), *OTHER.items(), ("srelu_released", CROSSED)],
)
def test_value_and_derivatives(name: str, values: dict[str, float]) -> None:
    own = list(values.values())
    assert len(own) == len(OPERATORS[name].own)
    x = points()
    if name in ("symexp", "srs"):
        x = x[np.abs(x) < 80]  # float32 ends before float64
    found = evaluate(name, own, x)
    expected = reference(name, own, x)
    for f, e in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        # Beside rounding, an argument's own half unit in the last place times the slope.
        slack = 3e-7 * (1 + np.abs(x)) * np.abs(e).clip(1e-3)
        error = np.abs(f[: len(x)] - e)
        worst = (error - 2e-6 * np.abs(e) - slack - 1e-7 * np.minimum(np.abs(x), 1)).argmax()
        assert error[worst] <= 2e-6 * abs(e[worst]) + slack[worst] + 1e-7, (x[worst], e[worst])


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "swish", "softplus", "elu"])
def test_derivatives_keep_their_digits_near_saturation(name: str) -> None:
    x = np.linspace(-12, 8, 4000).astype(np.float32)
    x = x[np.abs(x) > 1e-3]
    _, slopes, _ = evaluate(name, [], x)
    _, expected, _ = reference(name, [], x)
    keeps = np.abs(expected) > 1e-30
    relative = np.abs(slopes[: len(x)] / np.where(keeps, expected, 1) - 1)[keeps]
    # Swish crosses 0, where a relative error means nothing.
    assert np.quantile(relative, 0.98) < 1e-5


@every_operator
def test_nan_comes_out_as_nan(name: str) -> None:
    values, _, _ = evaluate(
        name, list(OPERATORS[name].own.values()), np.full(8, np.nan, np.float32)
    )
    assert np.isnan(values).all()


@every_operator
def test_finite_far_out(name: str) -> None:
    x = np.array([-1e4, -200, -100, -88, -0.0, 0, 88, 100, 200, 1e4] * 4, np.float32)
    values, slopes, own = evaluate(name, list(OPERATORS[name].own.values()), x)
    assert np.isfinite(values).all() and np.isfinite(slopes).all() and np.isfinite(own).all()


def test_every_operator_of_the_suite_has_a_kernel() -> None:
    others = {
        "relu", "logsigmoid", "srelu", "srelu_layer", "srelu_released", "prelu", "falu",
    }  # fmt: skip
    assert {*CANDIDATES, *others} <= set(KNOWN)
