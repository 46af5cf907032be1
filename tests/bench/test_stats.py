"""Each statistic against an independent computation or a worked example."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from bench import stats

SLEEP = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]) - np.array(
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
)
"""Student's (1908) sleep data, the differences of two drugs."""

FEW = settings(max_examples=30, deadline=None)
numbers = st.floats(-50, 50).map(lambda v: round(v, 2))
samples = st.lists(numbers, min_size=2, max_size=8)


def test_interval_is_the_paired_t_interval_of_the_sleep_data() -> None:
    found = stats.mean_interval(SLEEP)
    assert found.mean == pytest.approx(-1.58)
    assert (found.low, found.high) == pytest.approx((-2.459886, -0.700114), abs=1e-6)


def test_interval_by_hand() -> None:
    """1, 2, 3: mean 2, sd 1, t(.975, 2) = 4.30265, half = 4.30265 / sqrt(3)."""
    found = stats.mean_interval([1, 2, 3])
    assert found.high - found.mean == pytest.approx(4.302653 / np.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0], [0.0, 0.0]])
def test_without_spread_there_is_no_interval(values: list[float]) -> None:
    for found in (stats.mean_interval(values), stats.prediction_interval(values)):
        assert found.n == len(values)
        assert not found.defined
        assert np.isnan(found.mean) == (not values)
    assert np.isnan(stats.hedges_dz(values))
    assert np.isnan(stats.tost_p(values, 0, 0.5))


def test_nan_is_refused_not_read_as_a_number() -> None:
    with pytest.raises(ValueError, match="leave out failed and missing runs"):
        stats.mean_interval([1.0, np.nan])


@FEW
@given(samples)
@example([0.0, 0.0, 0.0, 0.0, 0.0, 25.0, 7.88, -33.0])  # ties that float sums would split
def test_sign_flip_p_equals_the_enumeration(values: list[float]) -> None:
    flips = itertools.product((-1, 1), repeat=len(values))
    null = [abs(np.mean(np.multiply(signs, values))) for signs in flips]
    p = np.mean([v >= abs(np.mean(values)) - 1e-9 for v in null])
    assert stats.sign_flip_p(values) == pytest.approx(p)


@FEW
@given(samples)
def test_no_sign_flip_p_is_below_the_least_one(values: list[float]) -> None:
    assert stats.smallest_p(len(values)) <= stats.sign_flip_p(values) <= 1


@pytest.mark.parametrize(("n", "p"), [(1, 1), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 0.001953)])
def test_smallest_p(n: int, p: float) -> None:
    assert stats.smallest_p(n) == pytest.approx(p, abs=1e-6)
    assert stats.sign_flip_p(np.arange(1, n + 1)) == pytest.approx(p, abs=1e-6)


def test_sign_flip_p_without_and_with_one_replicate() -> None:
    assert np.isnan(stats.sign_flip_p([]))
    assert stats.sign_flip_p([3.0]) == 1.0
    assert stats.sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_sampled_sign_flip_p_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, stats.EXACT_UP_TO + 4)
    assert stats.sign_flip_p(values) == stats.sign_flip_p(values)
    assert stats.sign_flip_p(values) == pytest.approx(
        scipy_stats.ttest_1samp(values, 0).pvalue, abs=0.03
    )


@pytest.mark.parametrize(("alpha", "tests", "n"), [(0.05, 1, 6), (0.05, 3, 7), (0.01, 1, 8)])
def test_replicates_needed(alpha: float, tests: int, n: int) -> None:
    assert stats.replicates_needed(alpha, tests) == n
    assert stats.smallest_p(n) * tests < alpha <= stats.smallest_p(n - 1) * tests


def test_wilcoxon() -> None:
    distinct = [1.1, -0.4, 2.5, 3.2, 0.9]
    assert stats.wilcoxon_p(distinct) == pytest.approx(scipy_stats.wilcoxon(distinct).pvalue)
    assert stats.wilcoxon_p([1, 2, 3]) == pytest.approx(0.25)
    assert stats.wilcoxon_p([0.0, 0.0]) == 1.0
    assert stats.wilcoxon_p([0.0, 1.0, 2.0, 3.0]) == pytest.approx(0.25)
    assert np.isnan(stats.wilcoxon_p([]))


def test_ties_in_tenths_of_points_are_ties() -> None:
    """3.8 as a difference comes in several roundings, and they share their rank."""
    d = [97.3 - 93.5, 37.4 - 41.2, 5.1, 6.2, 7.3, 1.0]
    assert d[0] != -d[1]
    assert stats.wilcoxon_p(d) == stats.wilcoxon_p([3.8, -3.8, 5.1, 6.2, 7.3, 1.0])
    assert stats.wilcoxon_p(d) != stats.wilcoxon_p([3.81, -3.8, 5.1, 6.2, 7.3, 1.0])
    assert stats.superiority([100 * 0.57 - 57.0]) == 0.5


def test_hedges_dz_by_hand() -> None:
    """1, 2, 3: mean / sd = 2; J(2) = Gamma(1) / (sqrt(1) Gamma(1/2)) = 1 / sqrt(pi)."""
    assert stats.hedges_dz([1, 2, 3]) == pytest.approx(2 / np.sqrt(np.pi))
    assert np.isnan(stats.hedges_dz([1, 2]))


def test_hedges_correction_is_near_its_approximation() -> None:
    raw = SLEEP.mean() / SLEEP.std(ddof=1)
    assert stats.hedges_dz(SLEEP) / raw == pytest.approx(1 - 3 / (4 * 9 - 1), abs=1e-3)


def test_superiority_counts_ties_half() -> None:
    assert stats.superiority([1, -1, 0, 2]) == 0.625
    assert np.isnan(stats.superiority([]))


def test_relative_error_reduction() -> None:
    """Errors of 40 against 50 percent: a fifth less."""
    assert stats.relative_error_reduction([60, 60], [50, 50]) == pytest.approx(20)
    assert np.isnan(stats.relative_error_reduction([100], [100]))
    assert np.isnan(stats.relative_error_reduction([], []))


@settings(FEW, max_examples=8)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_counts_missing_tests() -> None:
    assert stats.holm([0.01, np.nan, 0.04])[::2] == pytest.approx([0.03, 0.08])
    assert np.isnan(stats.holm([0.01, np.nan, 0.04])[1])
    assert stats.holm([]) == []


def test_mcnemar_is_the_binomial_test_of_the_discordant_images() -> None:
    a = np.array([1] * 12 + [0] * 3 + [1] * 50 + [0] * 10, dtype=bool)
    b = np.array([0] * 12 + [1] * 3 + [1] * 50 + [0] * 10, dtype=bool)
    found = stats.mcnemar(a, b)
    assert (found.only_a, found.only_b) == (12, 3)
    assert found.p == pytest.approx(scipy_stats.binomtest(3, 15).pvalue)
    assert stats.mcnemar(a, a).p == 1
    with pytest.raises(ValueError, match="75 and 74 images"):
        stats.mcnemar(a, b[:-1])


def test_prediction_interval_by_hand() -> None:
    """1, 2, 3, mean of three more: 2 +- 4.30265 sqrt(1/3 + 1/3)."""
    found = stats.prediction_interval([1, 2, 3], runs=3)
    assert found.high == pytest.approx(2 + 4.302653 * np.sqrt(2 / 3), abs=1e-5)


def test_prediction_interval_covers() -> None:
    """Over 1,500 studies of five runs, the mean of three more falls inside in 94 to 96 percent."""
    rng = np.random.default_rng(3)
    studies = rng.normal(50, 2, (1500, 8))
    found = [stats.prediction_interval(s[:5], 3) for s in studies]
    inside = [f.low <= s[5:].mean() <= f.high for f, s in zip(found, studies, strict=True)]
    assert 0.935 < np.mean(inside) < 0.965


def test_tost_is_two_one_sided_tests() -> None:
    values, target, margin = [50.1, 50.3, 49.9, 50.2], 50.0, 0.5
    upper = scipy_stats.ttest_1samp(values, target + margin, alternative="less").pvalue
    lower = scipy_stats.ttest_1samp(values, target - margin, alternative="greater").pvalue
    assert stats.tost_p(values, target, margin) == pytest.approx(max(upper, lower))


def test_pooled_over_one_pair_is_the_paired_interval() -> None:
    assert stats.pooled_interval([SLEEP, []]) == pytest.approx(stats.mean_interval(SLEEP))
    assert stats.pooled_sign_flip_p([SLEEP]) == stats.sign_flip_p(SLEEP)


def test_pooled_interval_is_welch_for_two_pairs() -> None:
    """The mean of two means is half the difference of one and the other's negative."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 9.0, 5.0, 8.0])
    welch = scipy_stats.ttest_ind(a, -b, equal_var=False).confidence_interval()
    found = stats.pooled_interval([a, b])
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))
    assert np.isnan(stats.pooled_sign_flip_p([]))
    assert not stats.pooled_interval([a, [1.0, 1.0]]).defined


@FEW
@given(st.lists(numbers, min_size=3, max_size=8, unique=True), numbers)
def test_statistics_do_not_depend_on_shift_or_order(values: list[float], shift: float) -> None:
    base, moved = stats.mean_interval(values), stats.mean_interval(np.array(values[::-1]) + shift)
    if base.defined and moved.defined:
        assert moved.low - base.low == pytest.approx(shift, abs=1e-6)
    assert stats.sign_flip_p(values[::-1]) == stats.sign_flip_p(values)
    assert stats.sign_flip_p([-v for v in values]) == pytest.approx(stats.sign_flip_p(values))


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 6, 10])
def test_intervals_cover_and_the_exact_test_keeps_its_level(n: int) -> None:
    """10,000 simulated studies of n paired differences without an effect, each of sd 3 points."""
    studies = np.random.default_rng(n).normal(0, 3, (10_000, n))
    intervals = [stats.mean_interval(study) for study in studies]
    covered = np.mean([found.low <= 0 <= found.high for found in intervals])
    assert 0.94 < covered < 0.96
    rejected = np.mean([stats.sign_flip_p(study) <= 0.05 for study in studies])
    level = 0.05 // stats.smallest_p(n) * stats.smallest_p(n)  # what the design can attain
    print(f"n = {n}: {100 * covered:.1f} % covered, {100 * rejected:.1f} % rejected")
    assert rejected <= 0.055
    assert rejected == pytest.approx(level, abs=0.006)
