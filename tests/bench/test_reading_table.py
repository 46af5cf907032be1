"""The table of readings: distances to the paper's numbers, and which are told apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats
from synthetic import PAIR

from bench import paper
from bench.records.collection import Collection
from bench.tables.readings import Runs, readings

RATIO, REPLICATES = 0.99, 6
PRINTED = ("vanilla", "stage1_only", "stage2_only", "safs")
CONTEXT = synthetic.context(ratios=(RATIO,), replicates=REPLICATES)
NOISE = np.random.default_rng(4).normal(0, 3, (len(PRINTED), REPLICATES))


def table2(arm: str) -> float:
    entry = paper.published("lenet5_mnist", "table2", arm)
    assert entry is not None
    return float(entry["top1"])


def runs(accuracy: Mapping[str, np.ndarray], dense: float = 97.0) -> Runs:
    """A reading with these arms; accuracies in percent, one per replicate, NaN where it is not."""
    rows = [
        {"pair": PAIR, "ratio": 0.0 if arm == "dense" else RATIO, "replicate": replicate,
         "arm": arm, "status": "ok" if np.isfinite(top1) else "missing", "top1": top1}
        for arm, values in (accuracy | {"dense": np.full(REPLICATES, dense)}).items()
        for replicate, top1 in enumerate(values)
    ]  # fmt: skip
    return Runs(PAIR, "a reading", Collection(pd.DataFrame(rows), {}, {}))


def off_by(gap: float, noise: np.ndarray = NOISE) -> dict[str, np.ndarray]:
    """Each arm that Table 2 prints, a number of points above it and with noise."""
    return {a: table2(a) + gap + each for a, each in zip(PRINTED, noise, strict=True)}


def by_hand(accuracy: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.mean([np.abs(values - table2(arm)) for arm, values in accuracy.items()], axis=0)


def row(table, reading: str) -> pd.Series:
    return table.frame.set_index("reading").loc[reading]


def test_a_distance_is_each_replicates_and_its_difference_has_a_paired_t_interval() -> None:
    own = off_by(-6.0)
    other = {"safs": own["safs"] - 9 + np.arange(REPLICATES)}
    found = readings(runs(own).runs, {"other": runs(other)}, CONTEXT)
    ours, theirs = by_hand(own), by_hand(own | other)
    assert row(found, "profile")["distance"] == pytest.approx(ours.mean())
    assert row(found, "other")["distance"] == pytest.approx(theirs.mean())
    bounds = stats.ttest_rel(theirs, ours).confidence_interval(0.95)
    expected = [(theirs - ours).mean(), bounds.low, bounds.high]
    columns = ["difference", "difference_low", "difference_high"]
    np.testing.assert_allclose(row(found, "other")[columns].astype(float), expected)
    assert row(found, "profile")[columns].isna().all()


def test_only_intervals_without_0_tell_readings_apart() -> None:
    own = off_by(-6.0)
    wild = np.random.default_rng(9).normal(0, 9, NOISE.shape)
    others = {
        "near": runs(off_by(-1.0))._replace(title="much nearer"),
        "far": runs(off_by(-20.0))._replace(title="much farther"),
        "noisy": runs(off_by(-4.0, NOISE + wild))._replace(title="by noise alone"),
    }
    found = readings(runs(own).runs, others, CONTEXT)
    noisy = row(found, "noisy")
    assert noisy["difference_low"] < 0 < noisy["difference_high"]
    assert "nearer: much nearer; farther: much farther; not told apart: 1 of 3." in found.caption
    assert "by noise alone" not in found.caption and "earest" not in found.caption
    cells = found.view.set_index("Reading")["Nearer (-) or farther (+)"]
    assert cells["the profile's own"] == "-" and cells["much farther"].startswith("+")


def test_a_reading_of_srelu_alone_is_not_compared_where_the_paper_prints_no_srelu() -> None:
    other = {"srelu": np.full(REPLICATES, 50.0)}
    found = readings(runs(off_by(-6.0)).runs, {"other": runs(other)}, CONTEXT)
    assert np.isnan(row(found, "other")["difference"])
    assert row(found, "other")["distance"] == row(found, "profile")["distance"]
    assert "told apart" not in found.caption


def test_a_replicate_without_an_arms_result_has_no_distance() -> None:
    own, other = off_by(-6.0), off_by(-12.0)
    other["safs"][0] = np.nan
    found = readings(runs(own).runs, {"other": runs(other)}, CONTEXT)
    assert row(found, "other")["distance"] == pytest.approx(by_hand(other)[1:].mean())
    difference = (by_hand(other) - by_hand(own))[1:].mean()
    assert row(found, "other")["difference"] == pytest.approx(difference)
    other["safs"][:] = np.nan
    found = readings(runs(own).runs, {"other": runs(other)}, CONTEXT)
    assert np.isnan(row(found, "other")["distance"])


def test_a_reading_that_was_not_run_is_named() -> None:
    missing = runs({"safs": np.full(REPLICATES, np.nan)}, dense=np.nan)
    found = readings(runs(off_by(-6.0)).runs, {"other": missing}, CONTEXT)
    assert found.caption.endswith("Not run yet: a reading.")
    assert np.isnan(row(found, "other")["distance"])
