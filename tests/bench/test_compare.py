"""Comparisons: contrasts, families, the overall line, the paper beside ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import PAIR, SHOWN_ARMS

from bench import stats
from bench.collection import Collection, collect
from bench.contrasts import CONTRASTS, contrasts_of
from bench.tables import comparisons as compare

SECOND = "vgg16_cifar10"


def _row(frame: pd.DataFrame, **values: object) -> pd.Series:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_files(whole: Collection, tmp_path: Path) -> None:
    paths = compare.write_all(whole, synthetic.context(), tmp_path)
    names = ("comparisons", "overall", "paper")
    assert set(paths) == {f"{name}.{s}" for name in names for s in ("csv", "md", "tex")}


def test_a_contrast_is_what_the_statistics_say(whole: Collection) -> None:
    frame = compare.compare(whole, synthetic.context()).contrasts.frame
    row = _row(frame, contrast="safs-vanilla", ratio=0.99)
    both = whole.paired(PAIR, 0.99, "safs", "vanilla")
    d = (both["safs"] - both["vanilla"]).to_numpy()
    assert (row["low"], row["high"]) == stats.mean_interval(d)[1:3]
    assert row["p"] == row["p_smallest"] == 0.25
    assert row["kind"] == "confirmatory"
    assert row["dz"] == stats.hedges_dz(d)
    family = frame[frame["contrast"] == "safs-vanilla"]
    assert len(family) == 3
    assert family["p_holm"].tolist() == stats.holm(family["p"].tolist())
    assert set(family["kind"]) == {"confirmatory", "exploratory"}
    discordant = row["images_only_a"] - row["images_only_b"]
    assert discordant == pytest.approx(d.sum() * synthetic.IMAGES / 100)


def test_no_star_and_the_power_is_stated(whole: Collection) -> None:
    table = compare.compare(whole, synthetic.context()).contrasts
    assert "*" not in table.csv()
    assert "6 replicates can, 7 after Holm" in table.markdown()


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "no paired replicate"),
        (3, "cannot reach .05; 6 replicates can, 7 after Holm"),
        (6, "cannot reach .05 after Holm over 3 tests; 7 can"),
        (10, "can reach .05, also after Holm over 3 tests"),
    ],
)
def test_power_words(n: int, words: str) -> None:
    assert words in compare.power_words(n, 3)


def test_contrasts_are_made_where_both_arms_were_run() -> None:
    assert {c.name for c in contrasts_of(SHOWN_ARMS)} == {
        "safs-vanilla", "safs-srelu", "safs-stage1_only", "safs-stage2_only",
        "stage1_only-vanilla",
    }  # fmt: skip
    assert [c.name for c in CONTRASTS if c.confirmatory] == ["safs-vanilla", "safs-srelu"]
    more = {c.name for c in contrasts_of([*SHOWN_ARMS, "default_hpo", "srelu_hpo"])}
    assert {"safs-default_hpo", "safs-srelu_hpo", "default_hpo-vanilla"} <= more


def test_overall_weighs_pairs_alike(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path) + synthetic.expected(tmp_path, pair=SECOND)
    synthetic.write(run for run in runs if run.pair == PAIR or run.replicate < 2)
    context = synthetic.context(pairs={PAIR: {"label": "LeNet"}, SECOND: {"label": "VGG"}})
    found = collect(runs)
    row = _row(compare.compare(found, context).overall.frame, contrast="safs-vanilla")
    means = []
    for pair in (PAIR, SECOND):
        both = found.paired(pair, 0.99, "safs", "vanilla")
        means.append((both["safs"] - both["vanilla"]).mean())
    assert row["difference"] == pytest.approx(np.mean(means))
    assert (row["n"], row["pairs"]) == (5, 2)
    assert row["p_smallest"] == 0.0625


def test_without_the_confirmatory_ratio_there_is_no_overall(tmp_path: Path) -> None:
    found = synthetic.collection(tmp_path, ratios=(0.9,))
    made = compare.compare(found, synthetic.context(ratios=(0.9,)))
    assert made.overall.frame.empty
    assert "none" in made.overall.markdown()
    assert set(made.contrasts.frame["kind"]) == {"exploratory"}


def test_the_paper_beside_ours(whole: Collection) -> None:
    frame = compare.compare(whole, synthetic.context()).paper.frame
    assert set(frame["verdict"]) == {"not comparable"}
    assert frame["rule"].str.contains("4,000 images").all()
    row = _row(frame, what="safs")
    values = whole.series(PAIR, 0.99, "safs").to_numpy()
    assert row["prediction_low"] == stats.prediction_interval(values, 3).low
    assert _row(frame, what="dense")["n"] == 3
    assert _row(frame, what="safs-vanilla")["published"] == 15.53


def test_a_comparable_pair_gets_verdicts(whole: Collection) -> None:
    pairs = {PAIR: {"label": "L", "published": "lenet5_mnist", "comparable": True}}
    frame = compare.compare(whole, synthetic.context(pairs=pairs)).paper.frame
    assert _row(frame, what="dense")["verdict"] == "not reproduced"
    assert _row(frame, what="safs-vanilla")["verdict"] == "direction only"


def test_a_pair_that_the_paper_lacks(whole: Collection) -> None:
    made = compare.compare(whole, synthetic.context(pairs={PAIR: {"label": "L"}}))
    assert made.paper.frame.empty
