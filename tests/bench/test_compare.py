"""Comparisons: contrasts, families, the overall line, the paper beside ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import PAIR, SHOWN_ARMS

from bench import stats
from bench.contrasts import CONTRASTS, MAIN, SAME_FOR_RELU, Preregistration, contrasts_of
from bench.records.collection import Collection, collect
from bench.render import write_all
from bench.tables import comparisons as compare
from safs.errors import SafsError

SECOND = "vgg16_cifar10"


def test_files(whole: Collection, tmp_path: Path) -> None:
    paths = write_all(compare.compare(whole, synthetic.context()), tmp_path)
    names = ("comparisons", "overall", "paper")
    assert set(paths) == {f"{name}.{s}" for name in names for s in ("csv", "md", "tex")}


SAID = {"ratio": 0.99, "replicates": 1, "contrasts": ["safs-vanilla", "safs-srelu"]}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Seven replicates, two finals each, of which SAFS's second failed in replicates 1 and 2."""
    runs = synthetic.expected(tmp_path_factory.mktemp("many"), replicates=7)
    for run in runs:
        finals = [synthetic.final(run.arm, at, run.replicate) for at in (run.ratio, run.ratio + 1)]
        if run.arm == "safs" and run.replicate in (1, 2) and run.ratio == 0.99:
            finals[1] = {"reason": "loss is not finite"}
        chain = synthetic.chain(run.arm, run.ratio, run.replicate)
        chain["finals"] = [*chain["finals"], *chain["finals"]]
        changes = {"finals": finals, "chain": chain}
        synthetic.record(run.arm, run.ratio, run.replicate, run.pair, **changes).write(run.path)
    return collect(runs)


def _contrasts(found: Collection, **changes: object) -> pd.DataFrame:
    context = synthetic.context(replicates=7, **changes)
    return compare.compare(found, context).contrasts.frame


def test_a_contrast_is_what_the_statistics_say(many: Collection) -> None:
    row = synthetic.row(_contrasts(many), contrast="safs-vanilla", ratio=0.99)
    both = many.paired(PAIR, 0.99, "safs", "vanilla")
    d = (both["safs"] - both["vanilla"]).to_numpy()
    test = stats.SignFlip(d)
    assert (row["low"], row["high"]) == test.interval()[1:3]
    assert (row["t_low"], row["t_high"]) == stats.mean_interval(d)[1:3]
    assert (row["p"], row["p_attainable"]) == (test.p(), 2 / 2**7)
    assert row["median"] == pytest.approx(np.median(d))
    assert row["power"] == stats.power(d) and row["dz"] == stats.hedges_dz(d)
    assert (row["low"] > 0) == (row["p"] <= 0.05) == (row["verdict"].startswith("SAFS higher"))


def test_images_are_crossed_with_replicates(many: Collection) -> None:
    row = synthetic.row(_contrasts(many), contrast="safs-vanilla", ratio=0.99)
    table = [
        many.correct[PAIR, 0.99, r, "safs"] - many.correct[PAIR, 0.99, r, "vanilla"]
        for r in range(7)
    ]
    found = stats.crossed_interval(100 * np.array(table))
    assert found.mean == pytest.approx(row["difference"])
    assert (row["crossed_low"], row["crossed_high"]) == found[1:3]
    p = stats.holm([stats.images_p(d, 20) for d in table])
    assert row["images_a_better"] == sum(v <= 0.05 for v in p) > 0 == row["images_b_better"]


def test_failures_count_as_chance_and_beside_it_not_at_all(many: Collection) -> None:
    frame = _contrasts(many)
    row = synthetic.row(frame, contrast="safs-vanilla", ratio=0.99)
    assert (row["failures_a"], row["failures_b"], row["finals"]) == (2, 0, 14)
    assert row["p_failures"] == 0.5, "two replicates, both against the first arm"
    finite = many.paired(PAIR, 0.99, "safs", "vanilla", "top1_finite")
    d = finite["safs"] - finite["vanilla"]
    assert row["finite_difference"] == pytest.approx(d.mean())
    assert row["finite_difference"] > row["difference"] and row["finite_n"] == 7
    assert row["finite_low"] == stats.exact_interval(d).low
    assert np.isnan(synthetic.row(frame, contrast="safs-vanilla", ratio=0.9)["p_failures"])
    view = compare.compare(many, synthetic.context(replicates=7)).contrasts.view
    assert "2 : 0 of 14 (p 0.500)" in set(view["Failed"]) and "0 : 0 of 14" in set(view["Failed"])
    assert (view["Without them"] != "-").sum() == 4, "each contrast of SAFS with a failure"


def test_a_replicate_whose_finals_all_failed_is_chance_or_left_out(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path, ("vanilla", "safs"), [0.99], 7)
    synthetic.write(runs)
    synthetic.failed("safs", 0.99, 3, "loss is not finite").write(runs[-4].path)
    row = synthetic.row(
        _contrasts(collect(runs), arms=("vanilla", "safs")), contrast="safs-vanilla"
    )
    assert (row["n"], row["finite_n"], row["failures_a"]) == (7, 6, 1)
    assert row["difference"] < row["finite_difference"]


def test_without_a_preregistration_everything_explores(many: Collection) -> None:
    frame = _contrasts(many)
    assert set(frame["kind"]) == {"exploratory"}
    family = frame[frame["contrast"] == "safs-vanilla"]
    assert len(family) == 3
    assert family["p_holm"].tolist() == stats.holm(family["p"].tolist())


def test_holm_is_over_what_was_preregistered(many: Collection) -> None:
    frame = _contrasts(many, preregistered=SAID | {"margins": {"safs-srelu": 12.0}})
    asked = frame[frame["kind"] == "confirmatory"]
    assert set(asked["contrast"]) == set(SAID["contrasts"]) and set(asked["ratio"]) == {0.99}
    assert asked["p_holm"].tolist() == stats.holm(asked["p"].tolist())
    rest = frame[(frame["contrast"] == "safs-vanilla") & (frame["ratio"] < 0.99)]
    assert rest["p_holm"].tolist() == stats.holm(rest["p"].tolist())
    context = synthetic.context(replicates=7, preregistered=SAID)
    known = compare.confirmed(many, context)
    assert known["safs-vanilla", PAIR, 0.99] == asked["p_holm"].iloc[0]


def test_six_replicates_cannot_confirm_two_contrasts_and_say_so(tmp_path: Path) -> None:
    found = synthetic.collection(tmp_path, replicates=6)
    alone = synthetic.context(replicates=6, preregistered=SAID | {"contrasts": ["safs-vanilla"]})
    row = synthetic.row(compare.compare(found, alone).contrasts.frame, kind="confirmatory")
    assert row["p_holm"] == row["p"] == 0.03125 and row["verdict"].startswith("SAFS higher")
    two = synthetic.context(replicates=6, preregistered=SAID)
    made = compare.compare(found, two).contrasts.frame
    row = synthetic.row(made, kind="confirmatory", contrast="safs-vanilla")
    assert row["p_holm"] == 0.0625 and row["low"] > 0
    assert row["verdict"].startswith("undecided: the exact 95% interval excludes 0, but Holm's p")
    whole = compare.compare(found, two).overall.frame
    assert whole["p_holm"].tolist() == [0.0625] * 2
    assert whole["verdict"].str.startswith("undecided").all()


def test_equivalence_is_asked_where_a_margin_was_preregistered(many: Collection) -> None:
    frame = _contrasts(many, preregistered=SAID | {"margins": {"safs-srelu": 12.0}})
    row = synthetic.row(frame, contrast="safs-srelu", ratio=0.99)
    inner = stats.SignFlip(
        many.series(PAIR, 0.99, "safs") - many.series(PAIR, 0.99, "srelu")
    ).interval(0.9)
    assert (row["inner_low"], row["inner_high"]) == inner[1:3]
    assert row["equivalent"] == (inner.low >= -12 and inner.high <= 12)
    assert frame["margin"].notna().sum() == 1 and frame["equivalent"].notna().sum() == 1


def test_an_unfinished_study_decides_nothing(many: Collection) -> None:
    """Seven of the eight replicates that were preregistered, and differences that would show."""
    said = SAID | {"margins": {"safs-srelu": 90.0}}
    context = synthetic.context(replicates=7, preregistered=said | {"replicates": 8})
    made = compare.compare(many, context)
    asked = made.contrasts.frame[made.contrasts.frame["kind"] == "confirmatory"]
    words = "undecided: so far 7 of the 8 preregistered replicates"
    assert set(asked["verdict"]) == {words} and (asked["low"] > 0).any()
    assert set(asked["equivalent"].dropna()) == {False}
    assert set(made.overall.frame["verdict"]) == {words}
    done = _contrasts(many, preregistered=said | {"replicates": 7})
    assert done["equivalent"].any() and not done["verdict"].str.contains("preregistered").any()


def test_few_replicates_are_unbounded_and_paired_t_stands_beside(whole: Collection) -> None:
    table = compare.compare(whole, synthetic.context()).contrasts
    row = synthetic.row(table.frame, contrast="safs-vanilla", ratio=0.99)
    assert (row["low"], row["high"], row["power"]) == (-np.inf, np.inf, 0)
    assert row["p"] == row["p_attainable"] == 0.25
    assert row["verdict"] == "no statement: 3 replicates cannot exclude anything, 6 can"
    assert f"unbounded, n < 6 (t: {row['t_low']:+.2f} to " in table.markdown().replace("\\", "")
    assert "*" not in table.csv() and "-inf" in table.csv()


def test_contrasts_are_made_where_both_arms_were_run() -> None:
    assert {c.name for c in contrasts_of(SHOWN_ARMS)} == {
        "safs-vanilla", "safs-srelu", "safs-stage1_only", "safs-stage2_only",
        "stage1_only-vanilla",
    }  # fmt: skip
    more = {c.name for c in contrasts_of([*SHOWN_ARMS, "default_hpo", "srelu_hpo"])}
    assert {"safs-default_hpo", "safs-srelu_hpo", "default_hpo-vanilla"} <= more
    layers = {c.name for c in contrasts_of(["safs", "srelu_layer", "srelu_layer_hpo"])}
    assert layers == {"safs-srelu_layer", "safs-srelu_layer_hpo"}
    assert {*MAIN, SAME_FOR_RELU} <= {c.name for c in CONTRASTS}


def test_stage_2_beside_tuning_alone_is_noise_where_the_default_is_relu(tmp_path: Path) -> None:
    arms = ("vanilla", "stage2_only", "default_hpo")
    found = synthetic.collection(tmp_path, arms=arms, ratios=(0.99,), replicates=6)
    context = synthetic.context(arms=arms, ratios=(0.99,), replicates=6)
    row = synthetic.row(compare.compare(found, context).contrasts.frame, contrast=SAME_FOR_RELU)
    assert row["verdict"].startswith("noise of tuning, as both are one class of functions: ")
    frame = found.frame.replace({"operators": {"|".join(["relu"] * 4): "|".join(["swish"] * 4)}})
    other = Collection(frame, found.correct, found.records)
    row = synthetic.row(compare.compare(other, context).contrasts.frame, contrast=SAME_FOR_RELU)
    assert "noise" not in row["verdict"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"contrasts": ["safs-vanila"]}, "unknown contrast 'safs-vanila'; did you mean 'safs-van"),
        ({"margins": {"safs-srelo": 1.0}}, "unknown margin of contrast 'safs-srelo'; did you mean"),
        ({"margins": {"safs-vanilla": 0.0}}, "margins"),
        ({"contrasts": ["safs-srelu", "safs-srelu"]}, "stands twice"),
        ({"contrasts": [], "margins": {}}, "go together; missing: contrasts"),
        ({"ratio": None}, "contrasts, ratio and replicates go together; missing: ratio"),
        ({"replicates": None}, "go together; missing: replicates"),
        (dict.fromkeys(SAID) | {"contrasts": [], "commit": "abcdef0"}, "missing: contrasts, ratio"),
        ({"commit": "HEAD"}, "commit"),
    ],
)
def test_a_preregistration_says_what_is_wrong(said: dict[str, object], words: str) -> None:
    with pytest.raises(SafsError, match=words) as caught:
        Preregistration(**(SAID | said))
    assert len(str(caught.value).splitlines()) == 1


def test_overall_weighs_pairs_alike(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path) + synthetic.expected(tmp_path, pair=SECOND)
    synthetic.write(run for run in runs if run.pair == PAIR or run.replicate < 2)
    context = synthetic.context(pairs={PAIR: {"label": "LeNet"}, SECOND: {"label": "VGG"}})
    found = collect(runs)
    row = synthetic.row(compare.compare(found, context).overall.frame, contrast="safs-vanilla")
    groups = []
    for pair in (PAIR, SECOND):
        both = found.paired(pair, 0.99, "safs", "vanilla")
        groups.append(both["safs"] - both["vanilla"])
    assert row["difference"] == pytest.approx(np.mean([group.mean() for group in groups]))
    assert (row["n"], row["pairs"]) == (5, 2)
    assert row["p"] == stats.over_groups(groups).p() and row["p_attainable"] == 0.0625


def test_overall_is_of_the_main_ratio_or_the_highest_that_was_run(tmp_path: Path) -> None:
    found = synthetic.collection(tmp_path, ratios=(0.9, 0.95))
    made = compare.compare(found, synthetic.context(ratios=(0.9, 0.95)))
    assert set(made.overall.frame["ratio"]) == {0.95}
    said = {"ratio": 0.9, "replicates": 1, "contrasts": ["safs-stage1_only"]}
    made = compare.compare(found, synthetic.context(ratios=(0.9, 0.95), preregistered=said))
    assert made.overall.frame["contrast"].tolist() == ["safs-stage1_only"]
    assert made.overall.frame["kind"].tolist() == ["confirmatory"]


def test_overall_asks_for_the_replicates_of_the_pairs_that_have_the_ratio(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path, replicates=7)
    runs += synthetic.expected(tmp_path, ratios=[0.9], replicates=7, pair=SECOND)
    synthetic.write(runs)
    pairs = {PAIR: {"label": "LeNet"}, SECOND: {"label": "VGG"}}
    context = synthetic.context(pairs=pairs, replicates=7, preregistered=SAID | {"replicates": 7})
    made = compare.compare(collect(runs), context).overall.frame
    assert made["n"].tolist() == [7, 7] and not made["verdict"].str.contains("preregistered").any()


def test_without_two_arms_there_is_nothing_to_compare(tmp_path: Path) -> None:
    found = synthetic.collection(tmp_path, arms=("dense", "vanilla"))
    made = compare.compare(found, synthetic.context(arms=("dense", "vanilla")))
    assert made.overall.frame.empty and made.contrasts.frame.empty
    assert "none" in made.overall.markdown()


def test_the_paper_beside_ours(whole: Collection) -> None:
    frame = compare.compare(whole, synthetic.context()).paper.frame
    assert set(frame["verdict"]) == {"not comparable"}
    assert frame["rule"].str.contains("4,000 images").all()
    row = synthetic.row(frame, what="safs")
    values = whole.series(PAIR, 0.99, "safs").to_numpy()
    assert row["prediction_low"] == stats.prediction_interval(values, 3).low
    assert synthetic.row(frame, what="dense")["n"] == 3
    assert synthetic.row(frame, what="safs-vanilla")["published"] == 15.53


def test_a_comparable_pair_gets_verdicts(whole: Collection) -> None:
    pairs = {PAIR: {"label": "L", "published": "lenet5_mnist", "comparable": True}}
    frame = compare.compare(whole, synthetic.context(pairs=pairs)).paper.frame
    assert synthetic.row(frame, what="dense")["verdict"] == "not reproduced"
    assert synthetic.row(frame, what="safs-vanilla")["verdict"] == "inconclusive"


def test_six_replicates_give_a_gain_its_verdict(tmp_path: Path) -> None:
    pairs = {PAIR: {"label": "L", "published": "lenet5_mnist", "comparable": True}}
    found = synthetic.collection(tmp_path, replicates=6)
    frame = compare.compare(found, synthetic.context(pairs=pairs, replicates=6)).paper.frame
    row = synthetic.row(frame, what="safs-vanilla")
    assert (row["verdict"], row["equivalent"]) == ("direction only", False)
    assert 0 < row["low"] < row["high"] < row["published"]


def test_a_pair_that_the_paper_lacks(whole: Collection) -> None:
    made = compare.compare(whole, synthetic.context(pairs={PAIR: {"label": "L"}}))
    assert made.paper.frame.empty
