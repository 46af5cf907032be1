"""Tables: numbers, gaps, renderers; and what a gap changes (only itself)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import PAIR

from bench import tables
from bench.records.collection import Collection, collect
from bench.render import (
    ABSENT,
    Table,
    interval_text,
    number,
    p_text,
    ratio_text,
    significant,
    spread_text,
    write_all,
)
from bench.tables import comparisons as compare
from bench.verdicts import RULES_VERSION, VERDICTS
from safs.errors import SafsError


def _damaged(folder: Path) -> Collection:
    """SAFS at .9: replicate 0 failed, 1 missing, at .95: replicate 0 invalid."""
    runs = synthetic.expected(folder)
    synthetic.write(runs)
    path = {run.key: run.path for run in runs}
    synthetic.failed("safs", 0.9, 0, "loss | is_not <finite>").write(path[PAIR, 0.9, 0, "safs"])
    path[PAIR, 0.9, 1, "safs"].unlink()
    path[PAIR, 0.95, 0, "safs"].write_text('{"top1": NaN}')
    return collect(runs)


def test_everything_is_written(whole: Collection, tmp_path: Path) -> None:
    paths = tables.write_all(whole, synthetic.context(), tmp_path)
    names = [make.__name__ for make in tables.MADE]
    files = {f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")}
    assert set(paths) == files | {"runs.csv", "summary.json"}
    assert {path.name for path in tmp_path.iterdir()} == set(paths)
    assert len(pd.read_csv(paths["runs.csv"])) == len(whole.frame)
    assert "nan" not in paths["table2.md"].read_text().lower()


def test_table1_means_spread_and_the_paper(whole: Collection) -> None:
    table = tables.table1(whole, synthetic.context())
    row = synthetic.row(table.frame, ratio=0.99, arm="safs")
    values = whole.series(PAIR, 0.99, "safs")
    assert row["top1_mean"] == pytest.approx(values.mean())
    assert row["top1_sd"] == pytest.approx(values.std(ddof=1))
    both = whole.paired(PAIR, 0.99, "safs", "vanilla")
    assert row["gain_mean"] == pytest.approx((both["safs"] - both["vanilla"]).mean())
    assert row["paper_top1"] == 62.22
    assert row["paper_gain"] == 15.53
    assert row["comparable"] is False
    assert "4,000 images" in table.markdown()
    assert "not comparable" in table.markdown()
    assert np.isnan(synthetic.row(table.frame, ratio=0.9, arm="safs")["paper_top1"])


def test_a_comparable_pair_is_not_marked(whole: Collection) -> None:
    pairs = {PAIR: {"label": "L", "published": "lenet5_mnist", "comparable": True}}
    table = tables.table1(whole, synthetic.context(pairs=pairs))
    assert "not comparable" not in table.markdown().lower()
    row = synthetic.row(table.frame, ratio=0.99, arm="safs")
    assert (row["level_verdict"], row["gain_verdict"]) == ("not reproduced", "inconclusive")
    assert "level: not reproduced; gain: inconclusive" in table.markdown()
    assert row["gain_rule"] in table.markdown() and row["rules_version"] == RULES_VERSION


def test_the_gain_at_every_ratio_stands_beside_the_printed_one(whole: Collection) -> None:
    pairs = {PAIR: {"label": "L", "published": "vgg16_cifar10", "comparable": True}}
    frame = tables.ratios(whole, synthetic.context(pairs=pairs)).frame
    assert frame["published"].tolist() == [1.65, 7.45, 8.88]
    row = synthetic.row(frame, ratio=0.95)
    both = whole.paired(PAIR, 0.95, "safs", "vanilla")
    assert row["gain"] == pytest.approx((both["safs"] - both["vanilla"]).mean())
    assert row["low"] < row["gain"] < row["high"]
    assert set(frame["verdict"]) <= set(VERDICTS)
    alone = tables.ratios(whole, synthetic.context())
    assert alone.frame["verdict"].tolist() == ["", "", "not comparable"]


def test_a_ratio_that_one_pair_alone_has_makes_no_line_of_another(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path) + synthetic.expected(tmp_path, pair="b", ratios=[0.9])
    synthetic.write(runs)
    context = synthetic.context(pairs={PAIR: {"label": "A"}, "b": {"label": "B"}})
    found = collect(runs)
    for name, table in tables.build(found, context).items():
        if name != "failures":
            assert set(table.frame.loc[table.frame["pair"] == "b", "ratio"]) <= {0.0, 0.9}, name
    contrasts = compare.compare(found, context).contrasts.frame
    assert contrasts.groupby("pair")["ratio"].nunique().to_dict() == {PAIR: 3, "b": 1}


def test_compression_counts_parameters_and_operations(whole: Collection) -> None:
    frame = tables.compression(whole, synthetic.context()).frame
    row = synthetic.row(frame, ratio=0.99, arm="safs")
    assert (row["total"], row["nonzero"], row["activation"]) == (44426, 678, 8)
    assert row["compression"] == pytest.approx((44426 - 8) / 678)
    assert row["speedup"] == pytest.approx(100, rel=1e-3)
    pairs = {PAIR: {"label": "VGG", "published": "vgg16_cifar10", "comparable": True}}
    caption = tables.compression(whole, synthetic.context(pairs=pairs)).caption
    assert "prints for VGG: gain over the best other method 6.24" in caption


def test_connectivity_stands_beside_accuracy(whole: Collection) -> None:
    frame = tables.connectivity(whole, synthetic.context()).frame
    assert len(frame) == 9
    row = synthetic.row(frame, ratio=0.99, replicate=1)
    assert (row["connected"], row["classes"], row["cap"]) == (5, 10, 99.5)
    assert row["safs"] == whole.series(PAIR, 0.99, "safs")[1]


def test_cost_counts_epochs_and_hours(whole: Collection) -> None:
    frame = tables.cost(whole, synthetic.context()).frame
    row = synthetic.row(frame, ratio=0.99, arm="safs")
    assert row["epochs_factor"] == pytest.approx(184 / 20)
    assert row["hours"] == pytest.approx(18.4 / 3600)
    assert (row["paper_hours"], row["paper_hours_factor"]) == (6.4, pytest.approx(40))
    assert np.isnan(synthetic.row(frame, ratio=0.9, arm="safs")["paper_hours"])


def test_no_failure_says_none(whole: Collection, tmp_path: Path) -> None:
    paths = tables.failures(whole, synthetic.context()).write(tmp_path)
    assert all("none" in path.read_text() for path in paths.values())


def test_a_gap_shows_and_changes_nothing_else(whole: Collection, tmp_path: Path) -> None:
    context, damaged = synthetic.context(), _damaged(tmp_path)
    for make in (tables.ratios, tables.compression, tables.cost):
        before, after = make(whole, context).frame, make(damaged, context).frame
        touched = after["ratio"].isin([0.9, 0.95])
        touched &= after["arm"] == "safs" if "arm" in after else True
        pd.testing.assert_frame_equal(before[~touched], after[~touched])
        assert after.loc[touched, "n"].tolist() == pytest.approx([2, 2], abs=1)
    for make in (tables.table1, tables.table2):
        before, after = make(whole, context).frame, make(damaged, context).frame
        touched = (after["arm"] == "safs") & after["ratio"].isin([0.9, 0.95])
        pd.testing.assert_frame_equal(before[~touched], after[~touched])
        row = synthetic.row(after, ratio=0.9, arm="safs")
        assert (row["n"], row["expected"], row["failures"]) == (2, 3, 1)
        assert row["top1_mean"] == pytest.approx((10 + whole.series(PAIR, 0.9, "safs")[2]) / 2)
    failures = tables.failures(damaged, context)
    assert failures.frame["status"].tolist() == ["failed", "missing", "invalid"]
    assert "1 of 48 runs have no valid record and count nowhere." in failures.caption
    assert r"loss \| is\_not \<finite\>" in failures.markdown()
    assert r"is\_not \textless{}finite\textgreater{}" in failures.latex()


def test_a_gap_shows_in_the_comparisons_alone(whole: Collection, tmp_path: Path) -> None:
    context, damaged = synthetic.context(), _damaged(tmp_path)
    before, after = (compare.compare(c, context).contrasts.frame for c in (whole, damaged))
    touched = after["contrast"].str.contains("safs") & after["ratio"].isin([0.9, 0.95])
    columns = [name for name in before if name not in ("p_holm",)]
    pd.testing.assert_frame_equal(before.loc[~touched, columns], after.loc[~touched, columns])
    row = synthetic.row(after, ratio=0.9, contrast="safs-vanilla")
    assert row["n"] == 2
    assert row["verdict"] == "no statement: 2 replicates cannot exclude anything, 6 can"


def test_nothing_at_all_is_a_table_of_gaps(tmp_path: Path) -> None:
    context = synthetic.context()
    empty = collect(synthetic.expected(tmp_path / "none"))
    tables.write_all(empty, context, tmp_path)
    assert "0 of 3" in (tmp_path / "table1.md").read_text()
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["runs"] == {"expected": 48, "ok": 0, "failed": 0, "missing": 48, "invalid": 0}
    assert found["top1"][PAIR]["0.99"]["safs"] == {"mean": None, "sd": None, "n": 0}
    assert write_all(compare.compare(empty, context), tmp_path)


def test_the_same_records_give_the_same_bytes(whole: Collection, tmp_path: Path) -> None:
    context = synthetic.context()
    first = tables.write_all(whole, context, tmp_path / "a")
    second = tables.write_all(whole, context, tmp_path / "b")
    assert all(path.read_bytes() == second[name].read_bytes() for name, path in first.items())


def test_latex_is_escaped() -> None:
    view = pd.DataFrame({"a_b": [r"50% & {x} ~ ^ $ # \ ±"]})
    text = Table("name", "T_1", "50%", view, view).latex()
    assert r"a\_b" in text
    assert (
        r"50\% \& \{x\} \textasciitilde{} \textasciicircum{} \$ \# \textbackslash{} $\pm$" in text
    )
    assert r"\caption{T\_1. 50\%}" in text


def test_a_profile_must_cover_the_runs(whole: Collection) -> None:
    with pytest.raises(SafsError, match=r"profile 'quick' has no ratio 0\.95"):
        tables.build(whole, synthetic.context(ratios=(0.9, 0.99)))
    with pytest.raises(SafsError, match="profile 'quick' has no arm 'safs'"):
        compare.compare(whole, synthetic.context(arms=("dense", "vanilla")))


def test_number_formats() -> None:
    assert number(np.nan) == "-"
    assert number(1.005, 1, sign=True) == "+1.0"
    assert spread_text(1.0, np.nan) == "1.00"
    assert spread_text(np.nan, np.nan) == "-"
    assert interval_text(-1, 2) == "-1.00 to +2.00"
    assert (p_text(0.25), p_text(0.0000123), p_text(np.nan)) == ("0.250", "1.2e-05", "-")
    assert (ratio_text(0.985), ratio_text(0.0)) == ("98.5%", "dense")


def test_a_terminal_is_told_no_more_than_text() -> None:
    view = pd.DataFrame([["\x1b[2Jlab", "a\r\nb"]], columns=["who", "what"])
    table = Table("t", "Title", "\x07caption\x9b", pd.DataFrame(), view)
    text = table.plain()
    assert "?[2Jlab" in text and "?caption?" in text
    assert all(mark.isprintable() or mark == "\n" for mark in text)


def test_hours_of_two_clocks_have_no_factor(whole: Collection) -> None:
    """Processor time over wall clock would say nothing, nor wall clock of a shared processor."""
    frame = whole.frame.copy()

    def factors() -> pd.Series[float]:
        table = tables.cost(replace(whole, frame=frame), synthetic.context())
        return table.frame.set_index("arm")["hours_factor"]

    frame.loc[frame["arm"] == "safs", "clock"] = "wall"
    assert factors()["safs"].isna().all() and factors()["stage1_only"].notna().all()
    frame["clock"] = "wall"
    assert factors().isna().all()
    frame["device"] = "cuda"
    assert factors().notna().all()


def test_a_missing_run_leaves_the_factor_of_the_others(tmp_path: Path) -> None:
    """Missing and invalid runs have no clock, which is not another one."""
    damaged = tables.cost(_damaged(tmp_path), synthetic.context()).frame
    found = damaged[damaged["arm"] == "safs"].set_index("ratio")["hours_factor"]
    assert found[0.9] > 1 and found[0.95] > 1


def test_hours_have_three_digits_and_latex_its_greek() -> None:
    told = [significant(value) for value in (0.000312, 0.017, 1.5, 123.4, 0.0, float("nan"))]
    assert told == ["0.000312", "0.0170", "1.50", "123", "0", ABSENT]
    view = pd.DataFrame({"α": ["β"]})
    assert r"$\alpha$" in (text := Table("n", "T", "", view, view).latex()) and r"$\beta$" in text


def test_ratios_that_are_near_each_other_stand_apart_in_the_summary(tmp_path: Path) -> None:
    ratios = (0.9995, 0.9999)
    runs = [run for ratio in ratios for run in synthetic.expected(tmp_path, ratios=(ratio,))]
    found = tables.summary(collect(runs), synthetic.context(ratios=ratios))["top1"][PAIR]
    assert set(found) >= {"0.9995", "0.9999"}
