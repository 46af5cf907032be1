"""Statistics of paired comparisons: pure functions on arrays of one number per replicate.

Differences are in percentage points. NaN means "not defined for these data": with one replicate,
or with no spread at all among them, there is no interval and no effect size; nothing is read as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.weightstats import DescrStatsW

Array = npt.NDArray[np.float64]
EXACT_UP_TO = 16
"""With more replicates than this, the sign-flip test samples :data:`RESAMPLES` of the 2^n flips."""
RESAMPLES = 99_999
TINY = 1e-12


class Interval(NamedTuple):
    """An estimate with its two-sided interval; NaN bounds where none is defined."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def defined(self) -> bool:
        """Whether there are bounds."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def facts(self, mean: str, bounds: str = "") -> dict[str, float]:
        """As facts of a row: the mean by its key, ``<bounds>low`` and ``<bounds>high``."""
        return {mean: self.mean, f"{bounds}low": self.low, f"{bounds}high": self.high}


class McNemar(NamedTuple):
    """Discordant test images and the exact two-sided p of an even split."""

    only_a: int
    only_b: int
    p: float


def _values(x: npt.ArrayLike) -> Array:
    values = np.asarray(x, dtype=float).ravel()
    if not np.isfinite(values).all():
        raise ValueError("statistics take finite numbers; leave out failed and missing runs")
    return values


def spread(x: npt.ArrayLike) -> float:
    """Sample standard deviation (n - 1); NaN below two values."""
    values = _values(x)
    return float(np.std(values, ddof=1)) if values.size > 1 else np.nan


def _has_spread(values: Array) -> bool:
    return values.size > 1 and spread(values) > TINY * max(1.0, float(np.abs(values).max()))


def mean_interval(x: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of ``x`` (shape ``(n,)``) with its Student t interval.

    For paired differences this is the paired-t interval. At n = 3, 5, 10 it covers as stated where
    a percentile bootstrap of the mean falls far short.
    """
    values = _values(x)
    mean = float(values.mean()) if values.size else np.nan
    if not _has_spread(values):
        return Interval(mean, np.nan, np.nan, values.size)
    low, high = DescrStatsW(values).tconfint_mean(alpha=1 - confidence)
    return Interval(mean, float(low), float(high), values.size)


def prediction_interval(x: npt.ArrayLike, runs: int = 3, confidence: float = 0.95) -> Interval:
    """Where the mean of ``runs`` further replicates falls: mean +- t s sqrt(1/n + 1/runs)."""
    values = _values(x)
    ours = mean_interval(values)
    if not ours.defined:
        return ours
    t = scipy_stats.t.ppf(0.5 + confidence / 2, values.size - 1)
    half = float(t * spread(values) * np.sqrt(1 / values.size + 1 / runs))
    return Interval(ours.mean, ours.mean - half, ours.mean + half, values.size)


def pooled_interval(groups: Sequence[npt.ArrayLike], confidence: float = 0.95) -> Interval:
    """Equal-weight mean of the groups' means, with Satterthwaite's degrees of freedom.

    A group is a pair, its values are the differences of its replicates. Groups without values are
    left out; one without spread leaves the interval undefined. ``n`` counts values.
    """
    arrays = [a for a in map(_values, groups) if a.size]
    total = sum(a.size for a in arrays)
    mean = float(np.mean([a.mean() for a in arrays])) if arrays else np.nan
    if not arrays or not all(_has_spread(a) for a in arrays):
        return Interval(mean, np.nan, np.nan, total)
    parts = np.array([spread(a) ** 2 / a.size for a in arrays]) / len(arrays) ** 2
    freedom = parts.sum() ** 2 / sum(
        p**2 / (a.size - 1) for p, a in zip(parts, arrays, strict=True)
    )
    half = float(scipy_stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(parts.sum()))
    return Interval(mean, mean - half, mean + half, total)


def sign_flip_p(differences: npt.ArrayLike) -> float:
    """Exact two-sided p that differences are symmetric about 0, by flipping signs.

    All 2^n flips up to n = :data:`EXACT_UP_TO`, sampled with a fixed seed beyond. NaN at n = 0.
    """
    d = _values(differences)
    if d.size < 2:
        return 1.0 if d.size else np.nan
    found = scipy_stats.permutation_test(
        (d,),
        lambda x, axis: _tied(np.asarray(np.mean(x, axis=axis))),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if d.size <= EXACT_UP_TO else RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _tied(x: Array) -> Array:
    """``x`` to 1e-10 points: what ties in exact arithmetic must not differ by rounding."""
    return np.round(x, 10)


def pooled_sign_flip_p(groups: Sequence[npt.ArrayLike]) -> float:
    """Sign-flip p of the equal-weight mean over groups; each (pair, replicate) flips as a whole."""
    arrays = [a for a in map(_values, groups) if a.size]
    return sign_flip_p(np.concatenate([a / a.size for a in arrays])) if arrays else np.nan


def wilcoxon_p(differences: npt.ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank p, zero differences left out; 1 if all are 0, NaN if none."""
    d = _tied(_values(differences))
    kept = d[d != 0]
    if not kept.size:
        return 1.0 if d.size else np.nan
    return float(scipy_stats.wilcoxon(kept).pvalue)


def hedges_dz(differences: npt.ArrayLike) -> float:
    """Standardised paired effect mean / sd with Hedges' exact small-sample correction; n >= 3."""
    d = _values(differences)
    if d.size < 3 or not _has_spread(d):
        return np.nan
    df = d.size - 1
    log_j = special.gammaln(df / 2) - special.gammaln((df - 1) / 2) - np.log(df / 2) / 2
    return float(np.exp(log_j) * d.mean() / spread(d))


def superiority(differences: npt.ArrayLike) -> float:
    """Share of replicates in which the first is better, ties counted half; NaN at n = 0."""
    d = _tied(_values(differences))
    return float(np.mean((d > 0) + 0.5 * (d == 0))) if d.size else np.nan


def relative_error_reduction(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """By how many percent ``a`` lowers the mean error of ``b``; accuracies in percent.

    NaN without values or where ``b`` makes no error.
    """
    first, second = _values(a), _values(b)
    if not first.size or not second.size:
        return np.nan
    errors = 100 - float(first.mean()), 100 - float(second.mean())
    return 100 * (errors[1] - errors[0]) / errors[1] if errors[1] > TINY else np.nan


def smallest_p(n: int) -> float:
    """The least two-sided p that the exact sign-flip test can give: 2 / 2^n, at most 1."""
    return min(1.0, 2.0 ** (1 - n)) if n else np.nan


def replicates_needed(alpha: float = 0.05, tests: int = 1) -> int:
    """The least n at which the exact test can give p < ``alpha`` after Holm over ``tests``."""
    n = 1
    while smallest_p(n) * tests >= alpha:
        n += 1
    return n


def holm(p: Sequence[float]) -> list[float]:
    """Holm-adjusted p, in order. NaN stays NaN but counts in the family (as a p of 1).

    statsmodels' ``multipletests`` gives the same numbers (a test holds it), but collects garbage
    at every call, which takes longer than all other statistics of a comparison together.
    """
    values = np.asarray(p, dtype=float)
    filled = np.where(np.isnan(values), 1.0, values)
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(filled.size, 0, -1)
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(v) for v in np.where(np.isnan(values), np.nan, adjusted)]


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike) -> McNemar:
    """Exact McNemar test on per-image correctness of two nets, shapes ``(images,)``.

    Raises ValueError if the shapes differ.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"correctness of {first.size} and {second.size} images")
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    table = [[int((first & second).sum()), only_a], [only_b, int((~first & ~second).sum())]]
    return McNemar(only_a, only_b, float(_mcnemar(table, exact=True).pvalue))


def tost_p(x: npt.ArrayLike, target: float, margin: float) -> float:
    """p of two one-sided t tests that the mean of ``x`` is within ``margin`` of ``target``.

    ``target`` is taken as exact: a printed mean comes without its spread. NaN without spread.
    """
    values = _values(x)
    if not _has_spread(values):
        return np.nan
    return float(DescrStatsW(values).ttost_mean(target - margin, target + margin)[0])
