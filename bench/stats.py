"""Statistics of paired comparisons: pure functions on arrays of one number per replicate.

Differences are in percentage points. NaN means "not defined for these data", an infinite bound
"no bound at this number of replicates"; nothing is read as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import DescrStatsW

Array = npt.NDArray[np.float64]
EXACT_UP_TO = 20
"""With more replicates than this, :data:`SAMPLED` of the 2^n flips stand for all."""
SAMPLED = 100_000
FLIPS = f"of 2^n flips, or with more than {EXACT_UP_TO} replicates of {SAMPLED:,} drawn once"
"""What the test counts, in words."""
LEVEL = 0.05
"""Level of every test, after Holm where several are one family."""
EQUIVALENCE = 0.90
"""Confidence of the interval that has to lie inside a margin: two one-sided tests at 5%."""
EFFECT = 1.0
"""The effect (points) for which power is stated."""
TINY = 1e-12
_LARGEST_GRID = 2**18
"""Beyond so many values of a sum of images, its distribution counts as normal."""


class Interval(NamedTuple):
    """An estimate with its two-sided interval; NaN bounds where none is defined.

    Infinite ones where no number of points can be excluded: the exact interval of few replicates.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def defined(self) -> bool:
        """Whether there are bounds."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def side(self) -> int:
        """+1 or -1 if the interval lies on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def facts(self, mean: str, bounds: str = "") -> dict[str, float]:
        """As facts of a row: the mean by its key, ``<bounds>low`` and ``<bounds>high``."""
        return {mean: self.mean, f"{bounds}low": self.low, f"{bounds}high": self.high}


def _values(x: npt.ArrayLike) -> Array:
    values = np.asarray(x, dtype=float).ravel()
    if not np.isfinite(values).all():
        raise ValueError("statistics take finite numbers; leave out failed and missing runs")
    return values


def spread(x: npt.ArrayLike) -> float:
    """Sample standard deviation (n - 1); NaN below two values."""
    values = _values(x)
    return float(np.std(values, ddof=1)) if values.size > 1 else np.nan


def median(x: npt.ArrayLike) -> float:
    """The median; NaN without values."""
    values = _values(x)
    return float(np.median(values)) if values.size else np.nan


def _has_spread(values: Array) -> bool:
    return values.size > 1 and spread(values) > TINY * max(1.0, float(np.abs(values).max()))


# The exact test and the interval that is its inversion


class SignFlip:
    """The exact sign-flip test of paired differences, from which p and intervals come alike.

    The null is that differences are symmetric about a centre; the statistic is their mean. A flip
    moves the mean by no less than it lies from the centre exactly if the mean of the flipped
    differences is not on its side of the centre. So the means of all 2^n - 1 non-empty subsets
    give every p, and two of their order statistics the bounds outside which p <= 1 - confidence.

    Args:
        differences: one per replicate, shape ``(n,)``.
        weights: how much each counts in the mean, all positive; alike where not given.
    """

    def __init__(self, differences: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        d = _values(differences)
        w = np.ones_like(d) if weights is None else _values(weights)
        self.n = d.size
        self.mean = float(w @ d / w.sum()) if d.size else np.nan
        means = _all_subset_means if d.size <= EXACT_UP_TO else _sampled_subset_means
        self._means = np.sort(_tied(means(d, w)))

    def p(self, centre: float = 0.0) -> float:
        """Two-sided p that the differences are symmetric about ``centre``; NaN without any."""
        if not self.n:
            return np.nan
        at = float(np.round(centre, 10))
        below = int(np.searchsorted(self._means, at, side="right"))
        above = self._means.size - int(np.searchsorted(self._means, at, side="left"))
        return min(1.0, 2 * (1 + min(below, above)) / (self._means.size + 1))

    def interval(self, confidence: float = 1 - LEVEL) -> Interval:
        """The centres with p > 1 - confidence, ends included; unbounded for few replicates."""
        if not self.n:
            return Interval(np.nan, np.nan, np.nan, 0)
        cut = int((self._means.size + 1) * (1 - confidence) / 2 + 1e-9)
        if not cut:
            return Interval(self.mean, -np.inf, np.inf, self.n)
        low, high = self._means[cut - 1], self._means[-cut]
        return Interval(self.mean, float(low), float(high), self.n)

    def within(self, target: float, margin: float) -> bool:
        """Equivalence: whether the exact 90% interval lies inside ``target`` +- ``margin``."""
        found = self.interval(EQUIVALENCE)
        return target - margin <= found.low and found.high <= target + margin


def _tied(x: Array) -> Array:
    """``x`` to 1e-10 points: what ties in exact arithmetic must not differ by rounding."""
    return np.round(x, 10)


def _all_subset_means(d: Array, w: Array) -> Array:
    """Weighted means of every non-empty subset, shape ``(2^n - 1,)``."""
    sums, weights = np.zeros(1), np.zeros(1)
    for value, weight in zip(d, w, strict=True):
        sums = np.concatenate([sums, sums + weight * value])
        weights = np.concatenate([weights, weights + weight])
    return sums[1:] / weights[1:]


def _sampled_subset_means(d: Array, w: Array) -> Array:
    """Those of the fixed subsets, of their complements and of the whole; ``SAMPLED - 1`` of them.

    A flip and its negative, whose subset is the complement, stand together: p is two-sided.
    """
    flipped = _subsets(d.size)
    sums, weights = flipped @ (w * d), flipped @ w
    whole, weight = w @ d, w.sum()
    rest = (whole - sums) / (weight - weights)
    return np.concatenate([sums / weights, rest, [whole / weight]])


@lru_cache(maxsize=2)
def _subsets(n: int) -> Array:
    """The same ``SAMPLED / 2 - 1`` subsets of ``n`` at every call, none empty, none the whole."""
    wanted = SAMPLED // 2 - 1
    drawn = np.random.default_rng(0).integers(0, 2, (wanted + 1000, n), dtype=np.int8)
    proper = drawn[drawn.min(axis=1) < drawn.max(axis=1)]
    return proper[:wanted].astype(float)


def sign_flip_p(differences: npt.ArrayLike) -> float:
    """Exact two-sided p that differences are symmetric about 0 (:class:`SignFlip`)."""
    return SignFlip(differences).p()


def exact_interval(differences: npt.ArrayLike) -> Interval:
    """The mean of differences with its exact 95% interval (:class:`SignFlip`)."""
    return SignFlip(differences).interval()


def over_groups(groups: Sequence[npt.ArrayLike]) -> SignFlip:
    """The test of the equal-weight mean of the groups' means.

    A group is a pair, its values are the differences of its replicates, and each (pair, replicate)
    flips as a whole. Groups without values are left out. Where the groups' true means differ, their
    distances count as spread, so that the interval is too wide rather than too narrow.
    """
    arrays = [a for a in map(_values, groups) if a.size]
    weights = [np.full(a.size, 1 / a.size) for a in arrays]
    return SignFlip(np.concatenate([[], *arrays]), np.concatenate([[], *weights]))


def attainable_p(n: int) -> float:
    """The least two-sided p that the sign-flip test of ``n`` differences can give.

    Beyond :data:`EXACT_UP_TO` it is that of the flips that stand for all.
    """
    return 2 / (2**n if n <= EXACT_UP_TO else SAMPLED) if n else np.nan


def replicates_needed(tests: int = 1) -> int:
    """The least n at which the exact test can reach :data:`LEVEL` after Holm over ``tests``."""
    n = 1
    while 2.0 ** (1 - n) * tests > LEVEL:
        n += 1
    return n


def power(differences: npt.ArrayLike) -> float:
    """Chance that as many further replicates show a true mean of :data:`EFFECT`, from their spread.

    By the paired t test at :data:`LEVEL`, which the exact test follows closely; 0 where it cannot
    reach that level whatever the data. NaN without spread.
    """
    d = _values(differences)
    if not _has_spread(d):
        return np.nan
    if d.size < replicates_needed():
        return 0.0
    freedom, shift = d.size - 1, EFFECT / spread(d) * np.sqrt(d.size)
    bound = scipy_stats.t.ppf(1 - LEVEL / 2, freedom)
    wrong_side = np.nan_to_num(scipy_stats.nct.cdf(-bound, freedom, shift))  # NaN where too small
    return float(scipy_stats.nct.sf(bound, freedom, shift) + wrong_side)


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


# By Student's t


def mean_interval(x: npt.ArrayLike) -> Interval:
    """Mean of ``x`` (shape ``(n,)``) with its Student t interval.

    For paired differences this is the paired-t interval. At n = 3, 5, 10 it covers as stated where
    a percentile bootstrap of the mean falls far short.
    """
    values = _values(x)
    mean = float(values.mean()) if values.size else np.nan
    if not _has_spread(values):
        return Interval(mean, np.nan, np.nan, values.size)
    low, high = DescrStatsW(values).tconfint_mean(alpha=LEVEL)
    return Interval(mean, float(low), float(high), values.size)


def prediction_interval(x: npt.ArrayLike, runs: int) -> Interval:
    """Where the mean of ``runs`` further replicates falls: mean +- t s sqrt(1/n + 1/runs)."""
    values = _values(x)
    ours = mean_interval(values)
    if not ours.defined:
        return ours
    t = scipy_stats.t.ppf(1 - LEVEL / 2, values.size - 1)
    half = float(t * spread(values) * np.sqrt(1 / values.size + 1 / runs))
    return Interval(ours.mean, ours.mean - half, ours.mean + half, values.size)


# Effect sizes


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


# Failures and images


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact McNemar p of how often only the first and only the second holds; NaN where neither."""
    cases = only_a + only_b
    return float(scipy_stats.binomtest(only_a, cases).pvalue) if cases else np.nan


def images_p(differences: npt.ArrayLike, steps: int) -> float:
    """Two-sided p of a sign-flip test over test images: are two arms of one replicate alike?

    Images' differences keep their size and get a random sign. With one final training and no
    failure they are -1, 0 and 1, and this is the exact McNemar test. The distribution of the sum is
    exact up to :data:`_LARGEST_GRID` values, from its characteristic function; normal beyond.

    Args:
        differences: of an image's mean correctness over finals, shape ``(images,)``.
        steps: how many make 1: all are multiples of 1 / ``steps`` (finals times classes do).
    """
    counted = np.rint(_values(differences) * steps).astype(int)
    sizes, counts = np.unique(np.abs(counted[counted != 0]), return_counts=True)
    if not sizes.size:
        return 1.0
    sizes, found = sizes // np.gcd.reduce(sizes), abs(int(counted.sum())) // np.gcd.reduce(sizes)
    largest = int(sizes @ counts)
    if 2 * largest >= _LARGEST_GRID:
        return float(2 * scipy_stats.norm.sf(found / np.sqrt(sizes**2 @ counts)))
    grid = 2 * largest + 2
    angles = 2 * np.pi * np.arange(largest + 2) / grid
    waves = np.prod([np.cos(angles * v) ** c for v, c in zip(sizes, counts, strict=True)], axis=0)
    masses = np.fft.irfft(waves, grid)
    inner = masses[0] + 2 * masses[1:found].sum() if found else 0.0
    return float(np.clip(1 - inner, 2.0 ** (1 - counts.sum()), 1.0))


def crossed_interval(differences: npt.ArrayLike) -> Interval:
    """Mean with an interval over replicates and test images both.

    By the unbiased variance of the mean of a crossed table (replicates and images are random, their
    interaction is what is left), with Satterthwaite's degrees of freedom; never less than the
    variance over replicates alone. ``n`` counts replicates; NaN below two of either.

    Args:
        differences: shape ``(replicates, images)``, in points.
    """
    d = np.asarray(differences, dtype=float)
    n, images = d.shape if d.ndim == 2 else (0, 0)
    mean = float(d.mean()) if d.size else np.nan
    if n < 2 or images < 2 or not _has_spread(d.ravel()):
        return Interval(mean, np.nan, np.nan, n)
    rows, columns = d.mean(axis=1) - mean, d.mean(axis=0) - mean
    left = d - mean - rows[:, None] - columns
    freedom = np.array([n - 1, images - 1, (n - 1) * (images - 1)])
    squares = np.array([images * rows @ rows, n * columns @ columns, np.sum(left * left)])
    parts = squares / freedom
    if parts[1] < parts[2]:  # images do not differ from one another
        parts[1:] = 0
    total = parts[0] + parts[1] - parts[2]
    if total < TINY:
        return Interval(mean, np.nan, np.nan, n)
    t = scipy_stats.t.ppf(1 - LEVEL / 2, total**2 / np.sum(parts**2 / freedom))
    half = float(t * np.sqrt(total / d.size))
    return Interval(mean, mean - half, mean + half, n)
