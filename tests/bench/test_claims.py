"""The claims: what each is tested on, its verdict, and what it lacks where it is undecided."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import PAIR, SHOWN_ARMS

from bench import stats
from bench.records.collection import Collection, collect
from bench.records.traces import ALGORITHMS, Traces, curve_frame
from bench.tables import claims
from safs.arms import ARMS
from safs.rows import SearchTrace

MORE = (
    *SHOWN_ARMS, "safs_fast", "default_hpo", "srelu_hpo", "random_hpo", "default_hpo_total",
)  # fmt: skip
NOT_RUN = {"srelu_layer"}
"""The claims about arms that these runs lack."""
SWEPT = ("all_swish", "all_tanh")
N = 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Eight replicates with control arms and the activation study."""
    folder = tmp_path_factory.mktemp("claims")
    return synthetic.collection(folder, arms=(*MORE, *SWEPT), replicates=N)


def rows(runs: Collection, traces: Traces, **changes: Any) -> pd.DataFrame:
    context = synthetic.context(**{"arms": MORE, "swept": SWEPT, "replicates": N} | changes)
    return claims.table(runs, traces, context).frame.set_index("claim")


@pytest.fixture(scope="module")
def found(runs: Collection) -> pd.DataFrame:
    return rows(runs, synthetic.traces(N))


def test_there_is_one_row_per_claim_and_pair_and_all_say_something(found: pd.DataFrame) -> None:
    assert list(found.index) == [claim.key for claim in claims.CLAIMS]
    assert set(found["verdict"]) <= {"holds", "fails", "undecided"}
    assert (found["rule"] != "").all() and (found.drop(index=list(NOT_RUN))["n"] > 0).all()
    assert set(found["ratio"]) == {0.99}


def test_three_lists_of_which_each_names_its_source(found: pd.DataFrame) -> None:
    assert list(dict.fromkeys(found["list"])) == list(claims.LISTS)
    ours = found["list"] == claims.OURS
    assert (found.loc[ours, "ref"] == "").all() and (found.loc[~ours, "ref"] != "").all()
    assert set(found.index[found["list"] == claims.UNTESTED]) == {
        "beyond_tuning", "activations", "search",
    }  # fmt: skip
    assert {"rare_symexp", "rare_elu"} <= set(found.index)


def test_arms_are_compared_like_with_like_or_as_in_the_paper(found: pd.DataFrame) -> None:
    """Where one arm is tuned and the other not, the words say so."""
    for claim in claims.CLAIMS:
        if not claim.contrast or claim.key == "recipe":
            continue
        alike = len({ARMS[name].tuned for name in claim.contrast.split("-") if name in ARMS}) == 1
        assert ("dense recipe" not in claim.ways[0][0]) == alike, claim.key


def test_holm_is_over_the_claims_of_a_list_that_could_be_tested(found: pd.DataFrame) -> None:
    for made in claims.LISTS:
        rows = found[(found["list"] == made) & (found["n"] > 0)]
        assert rows["p_holm"].tolist() == pytest.approx(stats.holm(rows["p"].tolist()))
    assert np.isnan(found.loc[list(NOT_RUN), "p_holm"]).all()
    assert set(found["kind"]) == {"exploratory"}


def test_a_preregistered_claim_is_held_to_the_study(runs: Collection) -> None:
    """At its ratio, by Holm over what it lists: seven contrasts need nine replicates."""
    names = [claim.contrast for claim in claims.CLAIMS if claim.contrast]
    names = [name for name in names if set(name.split("-")) <= set(MORE)][:7]
    said = {"ratio": 0.95, "replicates": 1, "contrasts": names}
    found = rows(runs, Traces(), preregistered=said)
    assert set(found["ratio"]) == {0.95}
    row = found.loc["vanilla"]
    assert row["kind"] == "confirmatory" and row["p"] == 2 / 2**N
    assert row["p_holm"] == pytest.approx(7 * row["p"]) and row["low"] > 0
    assert row["verdict"] == "undecided" and "Holm's p over the study is 0.055" in row["rule"]
    two = rows(runs, Traces(), preregistered=said | {"contrasts": names[:2]})
    assert two.loc["vanilla", "verdict"] == "holds"
    assert two.loc["vanilla", "p_holm"] == pytest.approx(2 * row["p"])


def test_a_difference_of_arms_is_the_exact_interval(found: pd.DataFrame, runs: Collection) -> None:
    both = runs.paired(PAIR, 0.99, "safs", "vanilla")
    expected = stats.exact_interval(both["safs"] - both["vanilla"])
    row = found.loc["vanilla"]
    assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx(tuple(expected))
    assert row["p"] == stats.sign_flip_p(both["safs"] - both["vanilla"])
    assert row["verdict"] == "holds"


def test_the_best_single_activation_is_tuned_where_safs_is(
    found: pd.DataFrame, tmp_path: Path
) -> None:
    assert "both with the dense recipe" in found.loc["single", "measured"]
    arms = ("vanilla", "safs", "stage1_only", "best_single_hpo", *SWEPT)
    tuned = synthetic.collection(tmp_path, arms=arms, ratios=(0.99,), replicates=N)
    row = rows(tuned, Traces(), arms=arms[:4], ratios=(0.99,)).loc["single"]
    assert "both tuned" in row["measured"]
    both = tuned.paired(PAIR, 0.99, "safs", "best_single_hpo")
    assert row["mean"] == pytest.approx((both["safs"] - both["best_single_hpo"]).mean())


def test_the_cheap_search_may_lose_a_point(found: pd.DataFrame, runs: Collection) -> None:
    lost = runs.series(PAIR, 0.99, "safs") - runs.series(PAIR, 0.99, "safs_fast")
    assert found.loc["fast", "mean"] == pytest.approx(1 - lost.mean())
    assert found.loc["fast", "verdict"] == "fails", "synthetic SAFS fast stands five points below"


def test_tuning_and_activations_are_told_apart(found: pd.DataFrame, runs: Collection) -> None:
    """Synthetic SAFS stands at 55, tuned default at 53, vanilla at 44: tuning gives most."""
    assert found.loc["activations", "verdict"] == "fails"
    mean = runs.select(ratio=0.99).groupby("arm")["top1"].mean()
    assert found.loc["activations", "mean"] == pytest.approx(
        mean["stage1_only"] - mean["default_hpo"]
    )


def test_growth_is_the_slope_over_the_ratios(found: pd.DataFrame, runs: Collection) -> None:
    gains = {
        ratio: runs.series(PAIR, ratio, "safs") - runs.series(PAIR, ratio, "vanilla")
        for ratio in (0.9, 0.95, 0.99)
    }
    assert found.loc["growth", "mean"] == pytest.approx((gains[0.99] - gains[0.9]).mean() / 2)


def test_better_algorithms_and_flow(found: pd.DataFrame) -> None:
    """Synthetic LAHC starts 0.1 to 0.3 lower; SAFS has ten times the flow, a hundred per step."""
    for name in ("annealing", "random", "bayesian"):
        assert found.loc[f"lahc_{name}", "verdict"] == "holds"
    assert "SMAC as by default" in found.loc["lahc_bayesian", "text"]
    assert found.loc["flow", "mean"] == pytest.approx(1.0)
    assert found.loc["flow_step", "mean"] == pytest.approx(2.0)
    assert found.loc["flow", "verdict"] == "holds", "without spread the exact interval is a point"


def test_searches_that_the_paper_does_not_have_change_no_claim(
    found: pd.DataFrame, runs: Collection
) -> None:
    """Ours and a user's own, which end far below LAHC and run in more replicates than it."""
    further = [*sorted(set(ALGORITHMS) - {"lahc", *claims.OTHER_SEARCHES}), "somebodys_own"]
    assert {"evolution", "bayesian_refit"} <= set(further)
    traces = synthetic.traces(N)
    added = tuple(
        synthetic.search_trace(0.99, replicate, algorithm=name, start=0.7)
        for name in further
        for replicate in range(N + 2)
    )
    more = dataclasses.replace(traces, search=(*traces.search, *added))
    pd.testing.assert_frame_equal(rows(runs, more), found)
    alone = dataclasses.replace(traces, search=added)
    compared = rows(runs, alone).loc[[f"lahc_{name}" for name in claims.OTHER_SEARCHES]]
    assert set(compared["verdict"]) == {"undecided"} and set(compared["n"]) == {0}


def _searches(share: Callable[[int], list[str]]) -> Traces:
    traces = []
    for replicate in range(N):
        data = synthetic.search_trace(0.99, replicate).model_dump(by_alias=True)
        for evaluation in data["evaluations"]:
            evaluation["chromosome"] = tuple(share(evaluation["index"] + replicate))
        traces.append(SearchTrace.model_validate(data))
    return Traces(tuple(traces))


def test_where_operators_stand(runs: Collection) -> None:
    """Slots: two early ones of four hold Symlog, both middle ones Swish, Symexp in one of 21."""

    def share(index: int) -> list[str]:
        early = "symlog" if index % 5 else "tanh"
        return [early, "swish", "hardswish", "symexp" if index % 7 == 0 else "tanh"]

    found = rows(runs, _searches(share))
    chance = 100 / len(synthetic.OPERATORS)
    assert found.loc["early", "verdict"] == "holds"
    assert found.loc["middle", "mean"] > 50 - 2 * chance
    assert found.loc["rare_symexp", "mean"] == pytest.approx(chance - 100 * 3 / 21 / 4)
    assert found.loc["rare_elu", "mean"] == pytest.approx(chance)
    assert [*claims._middle(4)] == [1, 2] and [*claims._middle(3)] == [1]
    with pytest.raises(claims.MissingError, match="2 slots, and so no middle third"):
        claims._middle(2)


def test_the_best_single_activation_is_chosen_without_the_replicate_it_is_measured_on(
    tmp_path: Path,
) -> None:
    """Swish wins on validation in replicate 0 alone, so only replicate 0 is measured on Tanh."""
    asked = synthetic.expected(tmp_path, ("vanilla", *SWEPT), [0.99], 3)
    for run in asked:
        best = (run.arm == "all_swish") == (run.replicate == 0)
        top1 = {"all_swish": 0.9, "all_tanh": 0.5}.get(run.arm, 0.1)
        top1 = top1 if best else 0.4
        final = synthetic.final(run.arm, 0.99, run.replicate, validation={"top1": top1, "loss": 1})
        synthetic.record(run.arm, 0.99, run.replicate, run.pair, finals=[final]).write(run.path)
    runs = collect(asked)
    row = rows(runs, Traces(), arms=("vanilla",), ratios=(0.99,)).loc["relu"]
    valid = runs.frame.pivot_table(index="replicate", columns="arm", values="validation_top1")
    for replicate, values in valid.iterrows():
        assert (values["all_swish"] > values["all_tanh"]) == (replicate == 0)
    chosen = {0: "all_tanh", 1: "all_swish", 2: "all_swish"}
    expected = np.mean(
        [
            runs.series(PAIR, 0.99, name)[r] - runs.series(PAIR, 0.99, "vanilla")[r]
            for r, name in chosen.items()
        ]
    )
    assert row["mean"] == pytest.approx(expected)


def test_undecided_says_what_is_missing(whole: Collection) -> None:
    found = rows(whole, Traces(), arms=SHOWN_ARMS, swept=(), replicates=3)
    assert set(found["verdict"]) == {"undecided"}
    assert "the exact interval is unbounded (n = 3)" in found.loc["vanilla", "rule"]
    reasons = {
        "search": "the arm Random + HPO was not run",
        "relu": "the activation study was not run here",
        "lahc_random": "the search comparison did not run RS",
        "rare_elu": "stage 1 left no trace here",
    }
    assert {key: found.loc[key, "rule"] for key in reasons} == reasons


def test_further_reasons(runs: Collection) -> None:
    """A default that is not ReLU, another search than LAHC, one ratio, no gradient flow."""
    lone = collect_one_ratio(runs)
    traces = synthetic.traces(N)
    found = rows(lone, traces, searches={PAIR: "annealing"})
    assert "one pruning ratio" in found.loc["growth", "rule"]
    assert found.loc["lahc_random", "rule"] == "stage 1 did not search by LAHC"
    arms = tuple(arm for arm in MORE if arm != "stage1_only")
    kept = runs.frame[runs.frame["arm"] != "stage1_only"]
    swept = rows(Collection(kept, runs.correct, runs.records), traces, arms=arms)
    assert swept.loc["single", "rule"] == "the arm Best single + HPO was not run"
    assert swept.loc["activations", "rule"] == "the arm Stage 1 was not run"
    frame = runs.frame.replace({"operators": {"|".join(["relu"] * 4): "|".join(["swish"] * 4)}})
    other = rows(Collection(frame.assign(flow=np.nan), runs.correct, runs.records), traces)
    assert other.loc["flow", "rule"] == "no gradient flow of both SAFS and vanilla"
    assert other.loc["relu", "rule"] == "the network's default is Swish, not ReLU"
    frame = runs.frame.copy()
    worse = (frame["arm"] == "safs") & (frame["ratio"] == 0.99) & (frame["replicate"] < 2)
    frame.loc[worse, "flow_step"] = [-0.5, 0.0]
    other = rows(Collection(frame, runs.correct, runs.records), traces)
    assert other.loc["flow_step", "rule"] == "a mean flow is not above 0 in replicate 0, 1"
    assert other.loc["flow_step", "verdict"] == "undecided" and other.loc["flow", "n"] == N


def collect_one_ratio(runs: Collection) -> Collection:
    frame = runs.frame[runs.frame["ratio"].isin([0.0, 0.99])]
    return Collection(frame, runs.correct, runs.records)


def test_a_gap_touches_only_the_claims_it_is_about(runs: Collection) -> None:
    frame = runs.frame.copy()
    gone = (frame["arm"] == "srelu") & (frame["replicate"] == 1)
    frame.loc[gone, ["status", "top1"]] = ["failed", np.nan]
    traces = Traces(synthetic.traces(N).search, (), curve_frame(()))
    before, after = (
        rows(Collection(f, runs.correct, runs.records), traces) for f in (runs.frame, frame)
    )
    assert before.loc["srelu", "p"] < after.loc["srelu", "p"]
    before, after = before.drop(columns="p_holm"), after.drop(columns="p_holm")
    pd.testing.assert_frame_equal(before.drop(index="srelu"), after.drop(index="srelu"))
    assert (before.loc["srelu", "n"], after.loc["srelu", "n"]) == (N, N - 1)


def test_a_failed_single_activation_counts_as_chance_when_one_is_chosen(tmp_path: Path) -> None:
    """Tanh validates better where it ends at all, and fails in two replicates of three."""
    asked = synthetic.expected(tmp_path, ("vanilla", *SWEPT), [0.99], 3)
    for run in asked:
        validation = {"top1": 0.9 if run.arm == "all_tanh" else 0.8, "loss": 1.0}
        final = synthetic.final(run.arm, 0.99, run.replicate, validation=validation)
        if run.arm == "all_tanh" and run.replicate > 0:
            final = {"reason": "loss is not finite"}
        synthetic.record(run.arm, 0.99, run.replicate, run.pair, finals=[final]).write(run.path)
    runs = collect(asked)
    row = rows(runs, Traces(), arms=("vanilla",), ratios=(0.99,)).loc["relu"]
    swish, vanilla = (runs.series(PAIR, 0.99, name) for name in ("all_swish", "vanilla"))
    assert row["mean"] == pytest.approx((swish - vanilla).mean())
