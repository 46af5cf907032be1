"""Each statistic against an independent computation or a worked example."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench import stats
from bench.render import interval_text

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
    for found in (stats.mean_interval(values), stats.prediction_interval(values, 3)):
        assert found.n == len(values)
        assert not found.defined
        assert np.isnan(found.mean) == (not values)
    assert np.isnan(stats.hedges_dz(values)) and np.isnan(stats.power(values))


def test_nan_is_refused_not_read_as_a_number() -> None:
    with pytest.raises(ValueError, match="leave out failed and missing runs"):
        stats.mean_interval([1.0, np.nan])


@FEW
@given(samples, st.sampled_from([0.0, 1.0, -3.25]))
@example([0.0, 0.0, 0.0, 0.0, 0.0, 25.0, 7.88, -33.0], 0.0)  # ties that float sums would split
def test_sign_flip_p_equals_the_enumeration(values: list[float], centre: float) -> None:
    d = np.array(values) - centre
    flips = itertools.product((-1, 1), repeat=len(values))
    null = [abs(np.mean(np.multiply(signs, d))) for signs in flips]
    p = np.mean([v >= abs(np.mean(d)) - 1e-9 for v in null])
    assert stats.SignFlip(values).p(centre) == pytest.approx(p)


def test_sign_flip_p_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).normal(0.4, 1, 12)
    theirs = scipy_stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert stats.sign_flip_p(values) == pytest.approx(theirs.pvalue)


@FEW
@given(samples)
def test_no_sign_flip_p_is_below_the_attainable_one(values: list[float]) -> None:
    assert stats.attainable_p(len(values)) <= stats.sign_flip_p(values) <= 1


@pytest.mark.parametrize(("n", "p"), [(1, 1), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 0.001953)])
def test_attainable_p(n: int, p: float) -> None:
    assert stats.attainable_p(n) == pytest.approx(p, abs=1e-6)
    assert stats.sign_flip_p(np.arange(1, n + 1)) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("n", [stats.EXACT_UP_TO, stats.EXACT_UP_TO + 1])
def test_attainable_p_where_sampling_begins(n: int) -> None:
    assert stats.sign_flip_p(np.arange(1, n + 1)) == stats.attainable_p(n)
    assert np.isnan(stats.attainable_p(0))


def test_sign_flip_p_without_and_with_one_replicate() -> None:
    assert np.isnan(stats.sign_flip_p([]))
    assert stats.sign_flip_p([3.0]) == 1.0
    assert stats.sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_the_interval_by_hand() -> None:
    """Six differences: of 64 flips one may lie on either side, so the extreme subset means."""
    found = stats.exact_interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    assert found == (4.0, 1.0, 9.0, 6)
    eight = stats.exact_interval([1, 1, 2, 2, 3, 3, 4, 8])  # 256 flips: the sixth on either side
    assert (eight.low, eight.high) == (1.5, 5.0)  # of 1 1 1 4/3 4/3 3/2 and 8 6 5.5 5.5 5 5


@pytest.mark.parametrize("n", range(1, 6))
def test_below_six_replicates_nothing_is_excluded(n: int) -> None:
    found = stats.exact_interval(np.arange(n) + 10.0)
    assert (found.low, found.high, found.n) == (-np.inf, np.inf, n)
    assert not found.defined and not found.side
    assert n < stats.replicates_needed() == 6
    assert interval_text(found.low, found.high) == f"unbounded, n < {stats.replicates_needed()}"
    assert stats.exact_interval([]) == pytest.approx((np.nan, np.nan, np.nan, 0), nan_ok=True)


@FEW
@given(st.lists(numbers, min_size=6, max_size=10))
@example([3.0] * 6)  # no spread: the interval is a point
@example([0.0] * 7)
def test_the_interval_holds_what_the_test_does_not_reject(values: list[float]) -> None:
    """At the bounds and inside p > .05, just outside not, at every confidence."""
    test = stats.SignFlip(values)
    for confidence in (0.95, 0.9):
        found = test.interval(confidence)
        assert found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high
        inside = (found.low, found.high, (found.low + found.high) / 2)
        assert all(test.p(centre) > 1 - confidence for centre in inside)
        outside = (found.low - 1e-6, found.high + 1e-6)
        assert all(test.p(centre) <= 1 - confidence for centre in outside)
    assert (test.interval().side != 0) == (test.p() <= stats.LEVEL)


@pytest.mark.parametrize("n", [21, 50])
def test_sampled_flips_give_the_same_every_time_and_near_paired_t(n: int) -> None:
    values = np.random.default_rng(1).normal(0.4, 1, n)
    first = stats.SignFlip(values)
    stats._subsets.cache_clear()  # as another process begins
    second = stats.SignFlip(values)
    assert first.p() == second.p() and first.interval() == second.interval()
    t = stats.mean_interval(values)
    assert first.p() == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert (first.interval().low, first.interval().high) == pytest.approx(t[1:3], abs=0.05)
    assert first.p(first.interval().low) > stats.LEVEL >= first.p(first.interval().low - 1e-6)
    mirrored = stats.exact_interval(-values)
    assert (mirrored.low, mirrored.high) == (-first.interval().high, -first.interval().low)


def test_the_fixed_flips_are_what_they_say() -> None:
    drawn = stats._subsets(21)
    assert drawn.shape == (stats.SAMPLED // 2 - 1, 21) and set(np.unique(drawn)) == {0.0, 1.0}
    assert drawn.sum(axis=1).min() > 0 and drawn.sum(axis=1).max() < 21
    assert drawn.mean() == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize(("tests", "n"), [(1, 6), (2, 7), (5, 8)])
def test_replicates_needed(tests: int, n: int) -> None:
    assert stats.replicates_needed(tests) == n
    assert stats.attainable_p(n) * tests <= stats.LEVEL < stats.attainable_p(n - 1) * tests


def test_equivalence_is_the_90_percent_interval_inside_the_margin() -> None:
    test = stats.SignFlip(SLEEP)
    inner, outer = test.interval(0.9), test.interval()
    assert outer.low < inner.low < inner.high < outer.high
    reach = max(abs(inner.low), abs(inner.high))
    assert test.within(0, reach) and not test.within(0, reach - 1e-6)
    assert not stats.SignFlip([0.1, -0.1, 0.0, 0.1]).within(0, 50), "four exclude nothing"


@pytest.mark.parametrize(("sd", "n"), [(4.4, 10), (1.0, 10), (2.24, 25), (0.05, 6)])
def test_power_is_what_simulated_paired_t_tests_find(sd: float, n: int) -> None:
    spread = np.random.default_rng(0).normal(size=n)
    spread = sd * (spread - spread.mean()) / spread.std(ddof=1)
    studies = np.random.default_rng(1).normal(stats.EFFECT, sd, (20_000, n))
    t = studies.mean(axis=1) / studies.std(axis=1, ddof=1) * np.sqrt(n)
    rejected = np.mean(np.abs(t) > scipy_stats.t.ppf(0.975, n - 1))
    assert stats.power(spread) == pytest.approx(rejected, abs=0.01)
    assert stats.power(spread + 7) == pytest.approx(stats.power(spread)), "of a stated effect"
    assert stats.power(spread[:5]) == 0, "five replicates can show nothing"


def test_ties_in_tenths_of_points_are_ties() -> None:
    """3.8 as a difference comes in several roundings."""
    d = [97.3 - 93.5, 37.4 - 41.2, 5.1, 6.2, 7.3, 1.0]
    assert d[0] != -d[1]
    assert stats.sign_flip_p(d) == stats.sign_flip_p([3.8, -3.8, 5.1, 6.2, 7.3, 1.0])
    assert stats.exact_interval(d)[1:] == stats.exact_interval([3.8, -3.8, 5.1, 6.2, 7.3, 1.0])[1:]
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


def test_mcnemar_is_that_of_statsmodels() -> None:
    for only_a, only_b in ((12, 3), (3, 12), (1, 0), (5, 5)):
        theirs = mcnemar([[50, only_a], [only_b, 10]], exact=True)
        assert stats.mcnemar_p(only_a, only_b) == pytest.approx(theirs.pvalue)
    assert np.isnan(stats.mcnemar_p(0, 0))


@FEW
@given(st.integers(0, 10**6))
def test_images_of_one_final_are_exact_mcnemar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, int(rng.integers(1, 200)))) < rng.random((2, 1))
    for steps in (1, 10):  # no failure: classes make no difference
        theirs = mcnemar([[0, (a & ~b).sum()], [(~a & b).sum(), 0]], exact=True)
        assert stats.images_p(a * 1.0 - b, steps) == pytest.approx(theirs.pvalue)


@FEW
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9))
@example([0, 0])
@example([5, -5])
def test_images_of_several_finals_by_enumeration(fiftieths: list[int]) -> None:
    """Five finals of ten classes, a failed one among them: multiples of 1 / 50."""
    flips = itertools.product((-1, 1), repeat=len(fiftieths))
    null = [abs(np.dot(signs, fiftieths)) for signs in flips]
    p = np.mean([v >= abs(sum(fiftieths)) for v in null])
    assert stats.images_p(np.array(fiftieths) / 50, 50) == pytest.approx(p)


def test_images_beyond_the_grid_are_normal() -> None:
    d = np.random.default_rng(4).integers(-2000, 2020, 10_000)
    normal = 2 * scipy_stats.norm.sf(abs(d.sum()) / np.sqrt(np.sum(d.astype(float) ** 2)))
    assert stats.images_p(d / 2000, 2000) == pytest.approx(normal)
    small = np.clip(d // 400, -5, 5)  # within the grid, where both agree
    normal = 2 * scipy_stats.norm.sf(abs(small.sum()) / np.sqrt(np.sum(small**2)))
    assert stats.images_p(small / 5, 5) == pytest.approx(normal, rel=0.05)


def test_the_crossed_interval_by_hand() -> None:
    """2 x 3 table: mean squares 24 (1 df) of rows, 13/6 (2) of columns, 1/2 (2) left."""
    found = stats.crossed_interval([[1.0, 2.0, 4.0], [6.0, 6.0, 7.0]])
    total = 24 + 13 / 6 - 1 / 2
    df = total**2 / (24**2 + (13 / 6) ** 2 / 2 + (1 / 2) ** 2 / 2)
    half = scipy_stats.t.ppf(0.975, df) * np.sqrt(total / 6)
    assert (found.mean, found.n) == (pytest.approx(13 / 3), 2)
    assert (found.low, found.high) == pytest.approx((13 / 3 - half, 13 / 3 + half))


def test_the_crossed_interval_is_never_narrower_than_paired_t() -> None:
    table = np.random.default_rng(5).normal(0, 1, (8, 50))
    alike = table - table.mean(axis=0)  # no image favours an arm
    paired = stats.mean_interval(alike.mean(axis=1))
    assert stats.crossed_interval(alike) == pytest.approx(paired)
    favoured = alike + np.random.default_rng(6).normal(0, 3, 50)
    assert stats.crossed_interval(favoured).high - favoured.mean() > paired.high - paired.mean
    for few in (np.empty((0, 5)), table[:1], np.zeros((3, 4))):
        assert not stats.crossed_interval(few).defined


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


def test_over_one_group_it_is_the_test_of_its_values() -> None:
    pooled, alone = stats.over_groups([SLEEP, []]), stats.SignFlip(SLEEP)
    assert pooled.p() == alone.p() and pooled.interval() == pytest.approx(alone.interval())
    assert stats.over_groups([]).n == 0 and np.isnan(stats.over_groups([[]]).p())


def test_groups_weigh_alike() -> None:
    """By enumeration over whole (group, replicate) blocks, at the mean and at a bound."""
    groups = [np.array([1.0, 2.0, 4.0]), np.array([3.0, 9.0, 5.0, 8.0])]
    test = stats.over_groups(groups)
    assert test.mean == pytest.approx(np.mean([groups[0].mean(), groups[1].mean()]))
    for centre in (0.0, test.interval().low, test.interval().high):
        parts = np.concatenate([(g - centre) / g.size for g in groups])
        null = [abs(np.dot(s, parts)) for s in itertools.product((-1, 1), repeat=7)]
        p = np.mean([v >= abs(parts.sum()) - 1e-9 for v in null])
        assert test.p(centre) == pytest.approx(p)


@FEW
@given(st.lists(numbers, min_size=3, max_size=8, unique=True), numbers)
def test_statistics_do_not_depend_on_shift_or_order(values: list[float], shift: float) -> None:
    for interval in (stats.mean_interval, stats.exact_interval):
        base, moved = interval(values), interval(np.array(values[::-1]) + shift)
        if base.defined and moved.defined:
            assert moved.low - base.low == pytest.approx(shift, abs=1e-6)
    assert stats.sign_flip_p(values[::-1]) == stats.sign_flip_p(values)
    assert stats.sign_flip_p([-v for v in values]) == pytest.approx(stats.sign_flip_p(values))
