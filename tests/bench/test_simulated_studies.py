"""Level and coverage over simulated studies: the figures of rule 25 of the protocol.

A p of 10,000 studies is computed here from the definition, not by :class:`bench.stats.SignFlip`,
which is held against it on some of them. Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from bench import stats

STUDIES, FINALS, CHANCE = 10_000, 5, 10.0
REPLICATES = [6, 10, 20, 50]
FAILING = 0.05
Array = npt.NDArray[np.float64]

pytestmark = pytest.mark.slow


def tails(studies: Array) -> Array:
    """Of each study's flips, the share that leaves its mean as far from 0; shape ``(studies,)``."""
    n = studies.shape[1]
    observed = np.abs(studies.sum(axis=1)) - 1e-9
    if n > stats.EXACT_UP_TO:
        signs = np.vstack([np.ones(n), 1 - 2 * stats._subsets(n)])
        parts = zip(np.split(studies, 100), np.split(observed, 100), strict=True)
        return np.concatenate([(np.abs(signs @ x.T) >= o).mean(axis=0) for x, o in parts])
    half = n // 2
    left, right = (part @ _signs(part.shape[1]) for part in (studies[:, :half], studies[:, half:]))
    right.sort(axis=1)
    above = [
        right.shape[1] * len(a) - np.searchsorted(b, o - a, side="left").sum()
        for a, b, o in zip(left, right, observed, strict=True)
    ]
    return np.minimum(1.0, 2 * np.array(above) / 2**n)


def _signs(n: int) -> Array:
    """All flips of n, shape ``(n, 2^n)``."""
    return 1.0 - 2 * (np.arange(2**n)[None, :] >> np.arange(n)[:, None] & 1)


def finals(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Top-1 of two arms alike, shape ``(studies, replicates, finals)``.

    A replicate favours one arm or the other (sd 3 points), and so does the order of batches (1.5).
    """
    favour = rng.normal(0, 3 / np.sqrt(2), (2, STUDIES, n, 1))
    a, b = 50 + favour + rng.normal(0, 1.5, (2, STUDIES, n, FINALS))
    return a, b


def as_chance(finals: Array, failed: npt.NDArray[np.bool_]) -> Array:
    """A replicate's mean where a failed final counts as chance."""
    return np.where(failed, CHANCE, finals).mean(axis=2)


def dropped(finals: Array, failed: npt.NDArray[np.bool_]) -> Array:
    """A replicate's mean over the finals that did not fail, NaN without any."""
    kept = (~failed).sum(axis=2)
    return np.where(failed, 0, finals).sum(axis=2) / np.where(kept, kept, np.nan)


def share(found: npt.NDArray[np.bool_]) -> str:
    return f"{100 * found.mean():.1f} %"


def attainable(n: int) -> float:
    """The level that a test at 5% can have with so many flips."""
    flips = 2**n if n <= stats.EXACT_UP_TO else stats.SAMPLED
    return 2 * int(flips * stats.LEVEL / 2) / flips


@pytest.mark.parametrize("n", REPLICATES)
def test_the_exact_test_keeps_its_level_and_its_inversion_covers(n: int) -> None:
    a, b = finals(np.random.default_rng(n), n)
    studies = a.mean(axis=2) - b.mean(axis=2)
    p = tails(studies)
    for study, its in zip(studies[:100], p[:100], strict=True):
        test = stats.SignFlip(study)
        found = test.interval()
        assert test.p() == pytest.approx(its, abs=1e-9)
        assert (found.low <= 0 <= found.high) == (its > stats.LEVEL)
    t = np.abs(studies.mean(axis=1)) / studies.std(axis=1, ddof=1) * np.sqrt(n)
    inside = t <= scipy_stats.t.ppf(1 - stats.LEVEL / 2, n - 1)
    rejected, covered = share(p <= stats.LEVEL), share(p > stats.LEVEL)
    print(f"\nn = {n}: {rejected} rejected, {covered} covered, by paired t {share(inside)}")
    assert (p <= stats.LEVEL).mean() == pytest.approx(attainable(n), abs=0.007)


@pytest.mark.parametrize("n", REPLICATES)
def test_failures_as_chance_keep_level_and_sign_where_dropping_them_does_not(n: int) -> None:
    """Arms that are alike but for 5 or 10% of finals that fail; what is covered is their cost."""
    rng = np.random.default_rng(100 + n)
    a, b = finals(rng, n)
    never, at_random = np.zeros(a.shape, dtype=bool), rng.random((2, *a.shape)) < FAILING
    cases = {
        "both": (at_random[0], at_random[1]),
        "one": (at_random[0], never),
        "its worst": (a < np.quantile(a, 2 * FAILING), never),
    }
    found = {}
    for case, (failed, other) in cases.items():
        cost = (as_chance(a, failed) - as_chance(b, other)).mean() if case != "both" else 0.0
        for rule in (as_chance, dropped):
            # A difference of 0 has no part in any flip: as good as left out.
            studies = np.nan_to_num(rule(a, failed) - rule(b, other))
            rejected, up = tails(studies) <= stats.LEVEL, studies.mean(axis=1) > 0
            covered = tails(studies - cost) > stats.LEVEL
            better, worse = rejected & up, rejected & ~up
            print(
                f"\nn = {n}, {case} failing, {rule.__name__}: better {share(better)}, worse "
                f"{share(worse)}, cost of {cost:.2f} points covered {share(covered)}"
            )
            found[case, rule.__name__] = better.mean(), rejected.mean(), covered.mean()
    assert found["both", "as_chance"][1] == pytest.approx(attainable(n), abs=0.007)
    assert found["one", "as_chance"][2] > 0.93 and found["one", "dropped"][2] < 0.9
    assert found["its worst", "as_chance"][0] < 0.015 < found["its worst", "dropped"][0]


@pytest.mark.parametrize("n", REPLICATES[:3])
@pytest.mark.parametrize(("replicates", "images"), [(0.02, 0.8), (0.15, 0.3), (0.15, 0.0)])
def test_the_crossed_interval_covers(n: int, replicates: float, images: float) -> None:
    """1,000 studies on 300 test images of their own, which favour one arm as replicates do."""
    rng = np.random.default_rng(n)
    inside = np.zeros(1000, dtype=bool)
    for study in range(inside.size):
        hard = rng.normal(0, 1, 300)
        favour = rng.normal(0, replicates, (n, 1)) + rng.normal(0, images, 300)
        noise = rng.normal(0, 0.6, (2, n, 300))
        a, b = hard + favour + noise[0] > 0, hard + noise[1] > 0
        found = stats.crossed_interval(100 * (a * 1.0 - b))
        inside[study] = found.low <= 0 <= found.high
    print(f"\nn = {n}, sd of replicates {replicates}, of images {images}: {share(inside)} covered")
    assert 0.92 < inside.mean() < 0.98


@pytest.mark.parametrize(
    ("n", "size", "sd", "least", "most"),
    [(8, 60.0, 3.0, 0.60, 0.72), (10, -34.0, 0.5, 0.60, 0.72), (50, -25.0, 3.0, 0.90, 0.96)],
)
def test_no_interval_covers_where_one_replicate_of_a_few_collapses(
    n: int, size: float, sd: float, least: float, most: float
) -> None:
    """One in n is expected to: in a third of small studies none does, and nothing tells of it."""
    rng = np.random.default_rng([n, 25])
    collapsed = rng.random((STUDIES, n)) < 1 / n
    studies = rng.normal(0, sd, (STUDIES, n)) + size * collapsed - size / n
    covered = tails(studies) > stats.LEVEL
    t = np.abs(studies.mean(axis=1)) / studies.std(axis=1, ddof=1) * np.sqrt(n)
    inside = t <= scipy_stats.t.ppf(1 - stats.LEVEL / 2, n - 1)
    print(f"\nn = {n}, one in {n} moves by {size:g}: covered {share(covered)}, t {share(inside)}")
    assert least < covered.mean() < most
    assert least < inside.mean() < most
