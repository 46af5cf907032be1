"""Elementary functions in float64 with the same bits everywhere.

The C library's, numpy's and PyTorch's differ in the last digit between processors and versions.
These use additions, products, divisions and integer steps alone, each of which IEEE 754 rounds in
one way. They take numbers or arrays and err by three units in the last place at most.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_EXP = [1 / math.factorial(k) for k in range(14, -1, -1)]
_ATANH = [2 / (2 * k + 1) for k in range(12, -1, -1)]
_COS = [float(Fraction((-1) ** k, math.factorial(2 * k))) for k in range(12, -1, -1)]


def exp(x: npt.ArrayLike) -> Floats:
    """e to the power x; 0 below -745 and infinity above 709.7, NaN for NaN."""
    x = np.clip(np.asarray(x, np.float64), -746.0, 710.0)
    k = np.rint(x * 1.4426950408889634)
    rest = (x - k * _LN2_HIGH) - k * _LN2_LOW
    with np.errstate(over="ignore"):
        return np.ldexp(_polynomial(_EXP, rest), np.where(np.isnan(k), 0, k).astype(np.int32))


def log(x: npt.ArrayLike) -> Floats:
    """The natural logarithm of positive finite numbers."""
    fraction, k = np.frexp(np.asarray(x, np.float64))
    small = fraction < 0.7071067811865476
    fraction, k = np.where(small, 2 * fraction, fraction), k - small
    s = (fraction - 1) / (fraction + 1)
    return k * _LN2_HIGH + (s * _polynomial(_ATANH, s * s) + k * _LN2_LOW)


def power(base: float, exponent: float) -> float:
    """A positive base to any power."""
    return float(exp(exponent * log(base)))


def half_cosine(part: float) -> float:
    """cos(pi ``part``) for 0 <= part <= 1."""
    if part > 0.5:
        return -half_cosine(1 - part)
    x = math.pi * part
    return float(_polynomial(_COS, np.asarray(x * x)))


def _polynomial(coefficients: list[float], x: Floats) -> Floats:
    """Horner's rule, the highest power first."""
    value = np.zeros_like(x)
    for coefficient in coefficients:
        value = value * x + coefficient
    return value
