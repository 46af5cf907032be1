"""Pooling labs: coverage, heterogeneity, leave-one-out, verdicts, what is never pooled."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import synthetic
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects
from synthetic import PAIR
from synthetic_labs import content, lab, sha

from bench.labs import pooling
from bench.labs.file import LabFile
from bench.labs.pooling import compare, pool
from bench.labs.view import view
from bench.stats import mean_interval

TRUTH = 5.0


def simulate(labs: int, replicates: int, between: float, rng: np.random.Generator):
    """Differences by lab: the labs' true gains spread by ``between``, replicates by 2 points."""
    true = TRUTH + between * rng.standard_normal((labs, 1))
    return list(true + 2 * rng.standard_normal((labs, replicates)))


@pytest.mark.parametrize("between", [0.0, 3.0])
@pytest.mark.parametrize("replicates", [3, 10])
def test_the_pooled_interval_covers_the_truth(replicates, between):
    """1,000 simulations of five labs; also I-squared above 0 where there is nothing, and not."""
    rng = np.random.default_rng(20230905)
    found = [pool(simulate(5, replicates, between, rng)) for _ in range(1000)]
    covered = np.mean([f.effect.low <= TRUTH <= f.effect.high for f in found])
    assert 0.92 <= covered <= 0.97
    seen = np.mean([f.i2.low > 0 for f in found])
    assert seen < 0.04 if between == 0 else seen > (0.6 if replicates == 3 else 0.95)


def test_weights_from_each_labs_own_variance_would_cover_too_little():
    """Why one variance is estimated for all labs: 88% instead of 95% at three replicates."""
    rng = np.random.default_rng(20230905)
    covered = 0
    for _ in range(1000):
        groups = np.array(simulate(5, 3, 0.0, rng))
        variance = groups.var(axis=1, ddof=1) / 3
        found = combine_effects(groups.mean(axis=1), variance, method_re="iterated", use_t=True)
        low, high = found.conf_int(use_t=True)[3]
        covered += low <= TRUTH <= high
    assert 0.86 <= covered / 1000 <= 0.90


def test_with_equal_labs_it_is_the_t_interval_of_their_means():
    """Equal weights: Hartung and Knapp's interval is Student's over the labs' means."""
    groups = simulate(5, 4, 3.0, np.random.default_rng(0))
    by_hand = mean_interval([group.mean() for group in groups])
    assert pool(groups).effect == pytest.approx(by_hand, rel=1e-6)


def test_i_squared_is_that_of_the_f_test():
    groups = simulate(5, 4, 3.0, np.random.default_rng(1))
    f = scipy_stats.f_oneway(*groups).statistic
    assert pool(groups).i2.mean == pytest.approx(100 * (1 - 1 / f))
    assert (pool(groups).i2.low > 0) == (scipy_stats.f_oneway(*groups).pvalue < 0.025)


def test_unequal_labs_weigh_by_their_replicates():
    rng = np.random.default_rng(2)
    groups = [5 + 0.1 * rng.standard_normal(n) for n in (3, 3, 200)]
    found, within = pool(groups), sum(((g - g.mean()) ** 2).sum() for g in groups) / 203
    weights = 1 / (found.tau**2 + within / np.array([3, 3, 200]))
    means = [group.mean() for group in groups]
    assert found.effect.mean == pytest.approx(np.average(means, weights=weights))
    assert abs(found.effect.mean - np.mean(means)) > 1e-3, "equal weights give another mean"


def test_one_lab_and_no_spread_have_no_interval():
    one = pool([np.array([1.0, 2.0])])
    flat = pool([np.array([1.0, 1.0])] * 3)
    assert one.effect.mean == 1.5 and flat.effect.mean == 1.0
    assert not one.effect.defined and not flat.effect.defined and not flat.i2.defined


def three(**planted):
    return {name: lab(name, seed, **planted) for seed, name in enumerate(("a", "b", "c"))}


def answered(labs, contrast="safs-vanilla", ratio=0.99):
    asked = [q for q in compare(labs).questions if q.contrast.name == contrast]
    return next(q for q in asked if q.ratio == ratio)


def test_three_agreeing_labs_are_consistent():
    question = answered(three())
    assert question.verdict.name == pooling.CONSISTENT
    assert question.pooled.effect.n == 3 and len(question.counted) == 3


def test_a_planted_difference_is_deviating_and_leaving_it_out_shows_which():
    labs = three() | {"far": lab("far", 7, gain=0.3)}
    question = answered(labs)
    assert question.verdict.name == pooling.DEVIATING
    widths = {e.lab: e.without.high - e.without.low for e in question.labs}
    assert min(widths, key=widths.get) == "far"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_labs_get_no_verdict(count):
    labs = dict(list(three().items())[:count])
    answer = compare(labs)
    assert {q.verdict.name for q in answer.questions} == {pooling.NO_VERDICT}
    assert f"{count} labs: no verdict" in answer.notes[0]


def test_identical_labs_count_once():
    twin = {name: lab(name, 1) for name in ("a", "b", "c")}
    question = answered(twin)
    assert question.verdict.name == pooling.IDENTICAL and len(question.counted) == 1
    assert question.labs[1].why_not == "identical to a image by image"
    mixed = three() | {"d": lab("d", 2)}
    assert len(answered(mixed).counted) == 3
    two = {"a": lab("a", 1), "b": lab("b", 1), "c": lab("c", 2)}
    assert answered(two).verdict.name == pooling.NO_VERDICT


def test_a_lab_with_trainings_of_another_counts_once():
    """One lab in part, or with images changed by hand, is no second one."""
    part = {"a": lab("a", 1), "b": lab("b", 1, replicates=2), "c": lab("c", 2)}
    question = answered(part)
    assert question.labs[1].why_not == "shares final trainings with a: 4"
    assert [effect.lab for effect in question.counted] == ["a", "c"]
    values = content("b", 1)
    for run in values["runs"]:
        for final in run["record"]["finals"]:
            bits = np.unpackbits(
                np.frombuffer(base64.b64decode(final["test"]["correct"]), np.uint8)
            )
            one, zero = np.argmax(bits), np.argmin(bits[: final["test"]["images"]])
            bits[[one, zero]] = bits[[zero, one]]
            final["test"]["correct"] = base64.b64encode(np.packbits(bits).tobytes()).decode()
    changed = pooling.LabFile.model_validate(values | {"digest": sha("any")})
    question = answered({"a": lab("a", 1), "b": changed, "c": lab("c", 2)})
    assert question.labs[1].why_not == "shares final trainings with a: 6"
    assert question.verdict.name == pooling.NO_VERDICT


def edited(name: str, seed: int, **head):
    """A lab whose head and records say something else of protocol or profile."""
    values = content(name, seed, **head)
    for run in values["runs"]:
        run["record"] |= head
    return pooling.LabFile.model_validate(values | {"digest": sha("any")})


def other_data(name: str, seed: int):
    values = content(name, seed)
    for run in values["runs"]:
        run["record"]["digests"]["data"] = {"train": sha("x"), "test": sha("y")}
    values["data"] = {"mnist5k": {"train": sha("x"), "test": sha("y")}}
    return pooling.LabFile.model_validate(values | {"digest": sha("any")})


def other_parameters(name: str, seed: int):
    values = content(name, seed)
    values["pairs"][PAIR]["parameters"] = sha("other")
    return pooling.LabFile.model_validate(values | {"digest": sha("any")})


def other_budget(name: str, seed: int):
    values = content(name, seed)
    for arm, budget in values["pairs"][PAIR]["budgets"].items():
        budget["final"] = 20 if arm == "dense" else 10
    for run in values["runs"]:
        run["record"]["epochs"]["final"] = 20 if run["record"]["arm"] == "dense" else 10
    return pooling.LabFile.model_validate(values | {"digest": sha("any")})


STRANGERS = [
    (edited("x", 9, protocol={"version": 2, "preset": "paper"}), "protocol version 2, not 3"),
    (edited("x", 9, protocol={"version": 3, "preset": "as_released"}), "preset as_released"),
    (edited("x", 9, profile="mnist5k"), "profile mnist5k, not quick"),
    (other_data("x", 9), "other data checksum"),
    (other_parameters("x", 9), "other parameters"),
    (other_budget("x", 9), "other budget"),
]


@pytest.mark.parametrize(("stranger", "why"), STRANGERS, ids=[why for _, why in STRANGERS])
def test_what_may_not_be_pooled_is_named(stranger, why):
    question = answered(three() | {"x": stranger})
    assert why in question.labs[-1].why_not
    assert [e.lab for e in question.counted] == ["a", "b", "c"]
    assert question.pooled == answered(three()).pooled
    alone = answered({"a": lab("a", 1), "x": stranger, "y": stranger})
    assert alone.verdict.name == pooling.INCOMPARABLE


def chained(name: str, seed: int, *, other: int = 0) -> LabFile:
    """A lab, of whose trainings the first ``other`` final ones after the dense are others."""
    values = content(name, seed)
    for place, run in enumerate(values["runs"][3 : 3 + other]):
        run["record"]["chain"]["finals"] = [f"{place:032x}"]
    return LabFile.model_validate(values | {"digest": sha("any")})


def test_labs_with_the_same_trainings_are_called_identical():
    """Three dense networks, 18 final trainings and, in six cells, 21 candidates and 20 trials."""
    total = 3 + 3 * 6 + 6 * 41
    found = {"a": chained("a", 1), "b": chained("b", 2), "c": chained("c", 3, other=2)}
    answer = compare(found)
    assert answer.same == {"b": (total, total), "c": (total - 2, total)}
    shown = view(found, synthetic.context().pairs)
    assert shown.same == (
        f"b: identical to a in all {total} trainings that both have",
        f"c: identical to a in {total - 2} of {total} trainings that both have",
    )
    each = shown.tables[1].frame
    told = {row.lab: row.trainings for row in each.itertuples()}
    expected = {"a": "", "b": "identical", "c": f"{total - 2} of {total} identical"}
    assert told == expected | {"Pooled": "", "Paper": ""}


def test_a_file_without_chains_says_nothing_of_trainings():
    values = content("b", 1)
    for run in values["runs"]:
        run["record"]["chain"] = None
    bare = LabFile.model_validate(values | {"digest": sha("any")})
    shown = view({"a": lab("a", 1), "b": bare}, {})
    assert shown.same == ("b: the files name no trainings that it shares with a",)
    assert set(shown.tables[1].frame["trainings"]) == {""}


def test_of_another_root_seed_no_training_is_expected_to_be_the_same():
    values = content("b", 2)
    for run in values["runs"]:
        chain = run["record"]["chain"]
        run["record"]["chain"] = {
            key: ["f" * 32] * len(link) if isinstance(link, list) else link and "f" * 32
            for key, link in chain.items()
        }
    other = LabFile.model_validate(values | {"digest": sha("any")})
    shown = view({"a": lab("a", 1), "b": other}, {})
    assert shown.same == ("b: has the root seed 2, not 1 as a, so its trainings are others",)
    assert set(shown.tables[1].frame["trainings"]) == {""}


def test_labs_of_one_seed_are_said_to_share_it():
    other = content("b", 1, gain=0.07)
    for run in other["runs"]:  # as another processor trains
        run["record"]["finals"][0]["weights"] = sha(run["record"]["finals"][0]["weights"])
    labs = {"a": lab("a", 1), "b": pooling.LabFile.model_validate(other | {"digest": sha("any")})}
    assert any("a and b have the root seed 1" in note for note in compare(labs).notes)


def test_the_papers_number_stands_beside_and_is_never_pooled(tmp_path):
    shown = view(three(), synthetic.context().pairs)
    each = shown.tables[1].frame
    printed = each[each["row"] == "paper"]
    assert list(printed["gain"]) == [15.53] and not printed["pooled"].any()
    assert printed["low"].isna().all() and "without a spread" in printed["why_not"].iloc[0]
    without = view(three(), {}).tables
    assert without[0].frame.equals(shown.tables[0].frame)
    assert len(without[1].frame) == len(each) - 1


def test_tables_plot_and_terminal(tmp_path):
    shown = view(three(), synthetic.context().pairs)
    paths = shown.write(tmp_path)
    assert {"labs.csv", "labs_each.csv", "labs.svg"} <= set(paths)
    assert shown.svg == view(three(), synthetic.context().pairs).svg
    assert all(f">{name}<" in shown.svg for name in ("a", "b", "c", "Pooled", "Paper"))
    pooled, each = shown.tables
    assert len(pooled.frame) == 2 * 2 and len(each.frame) == 4 * (3 + 1) + 1
    text = pooled.plain() + each.plain()
    assert "consistent" in text and "+15.53" in text and "never pooled" not in text


def test_contrasts_are_those_of_the_methods():
    names = {q.contrast.name for q in compare(three()).questions}
    assert names == {"safs-vanilla", "safs-srelu"}
