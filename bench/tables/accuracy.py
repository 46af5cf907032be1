"""Tables 1 and 2: the arms' accuracy, the paper's beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import paper
from bench.columns import ARM, RATIO, bounds, count, figure, pair_by, spread
from bench.context import Context
from bench.contrasts import MAIN_RATIO
from bench.records.collection import Collection
from bench.render import ABSENT, Column, Facts, Table
from bench.tables.shared import VERDICTS, Judged, cells, gain, judged, mean_and_spread
from bench.verdicts import NOT_COMPARABLE, RULES_VERSION

SPREAD = (
    "Mean ± sample standard deviation over replicates, each the mean over its final trainings, of "
    "which a failed one counts as chance, on validation images too; n is the number of runs with a "
    "result, of the expected. Failed counts final trainings; between finals is the standard "
    "deviation inside a replicate."
)
MAIN = ("dense", "vanilla", "srelu", "safs")
"""The arms of the paper's Table 1."""


def table1(collection: Collection, context: Context) -> Table:
    """Table 1: dense, vanilla, SReLU and SAFS; top-1, top-5, gain, the paper's beside ours."""
    arms = [name for name in context.arms if name in MAIN]
    title = "Accuracy against the baselines (the paper's Table 1)"
    return _accuracy_table("table1", title, arms, collection, context)


def table2(collection: Collection, context: Context) -> Table:
    """Table 2: each stage alone, both, and the control arms that the paper lacks."""
    title = "Ablation: what each stage adds (the paper's Table 2)"
    return _accuracy_table("table2", title, list(context.arms), collection, context)


def _accuracy_table(
    name: str, title: str, arms: list[str], collection: Collection, context: Context
) -> Table:
    found = judged(collection, context)
    rows = [_row(collection, context, *cell, found) for cell in cells(collection, context, arms)]
    columns = (
        pair_by(context.label), RATIO, ARM, count("n", "n", "expected"),
        Column("Failed", _failed), spread("Top-1 %", "top1"),
        figure("Between finals", "finals_sd"), spread("Top-5 %", "top5"),
        figure("Gain over vanilla", "gain_mean", sign=True), bounds(of="gain_"),
        spread("Validation top-1 %", "validation_top1"),
        figure("Paper top-1", "paper_top1"), figure("Paper top-5", "paper_top5"),
        figure("Paper gain", "paper_gain", sign=True),
        Column("Verdict", lambda row: _verdict_words(row)[0]),
        Column("Rule", lambda row: _verdict_words(row)[1]),
    )  # fmt: skip
    caption = (
        f"Percent on the test images. {SPREAD} The gain is the mean paired difference to vanilla "
        "in percentage points with its exact interval; validation accuracy selected, test "
        f"accuracy did not. {VERDICTS}"
    )
    caption += _why_not(rows, context)
    return Table.of(name, title, caption, rows, columns)


def _row(
    collection: Collection, context: Context, pair: str, ratio: float, arm: str, known: Judged
) -> dict[str, Any]:
    """Means, spreads, the printed values and their verdicts of one (pair, ratio, arm)."""
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "arm": arm}
    row["expected"] = len(collection.select(pair=pair, ratio=ratio, arm=arm))
    row["n"] = len(collection.series(pair, ratio, arm))
    for metric in ("top1", "top5", "validation_top1"):
        found = mean_and_spread(collection, pair, ratio, arm, metric)
        row[f"{metric}_mean"], row[f"{metric}_sd"] = found
    row |= _finals(collection, pair, ratio, arm)
    row |= gain(collection, pair, ratio, arm).facts("gain_mean", "gain_")
    row |= _printed(context, pair, ratio, arm)
    for name, what in (("level", arm), ("gain", f"{arm}-vanilla")):
        judgement = known.get((pair, what, "top1", ratio), {"verdict": "", "rule": ""})
        row |= {f"{name}_{key}": judgement[key] for key in ("verdict", "rule")}
    return row | {"rules_version": RULES_VERSION}


def _finals(collection: Collection, pair: str, ratio: float, arm: str) -> dict[str, float]:
    """Final trainings, how many failed, and their spread inside a replicate (points)."""
    found = {
        name: collection.series(pair, ratio, arm, name).to_numpy()
        for name in ("finals", "failures", "top1_spread")
    }
    counts = {name: int(found[name].sum()) for name in ("finals", "failures")}
    spreads = found["top1_spread"]
    inside = float(np.sqrt(np.mean(spreads**2))) if spreads.size else np.nan
    return {**counts, "finals_sd": inside}


def _failed(row: Facts) -> str:
    return f"{row['failures']} of {row['finals']}" if row["finals"] else ABSENT


def _printed(context: Context, pair: str, ratio: float, arm: str) -> dict[str, Any]:
    """The paper's numbers for the cell, whether they compare with ours, and why not."""
    info = context.pairs[pair]
    values = {}
    if arm == "dense" or ratio == MAIN_RATIO:
        tables = (paper.published(info.published, name, arm) for name in ("table1", "table2"))
        values = next((found for found in tables if found), {})
    printed_gain = paper.gain(info.published, f"{arm}-vanilla", ratio)
    printed = bool(values) or printed_gain is not None
    return {
        **{f"paper_{metric}": values.get(metric, np.nan) for metric in ("top1", "top5")},
        "paper_gain": np.nan if printed_gain is None else printed_gain,
        "comparable": info.comparable if printed else None,
        "why_not": "" if info.comparable or not printed else info.why_not,
    }


def _why_not(rows: list[dict[str, Any]], context: Context) -> str:
    """For the caption: why the paper's numbers are not comparable, once per pair."""
    found = {row["pair"]: row["why_not"] for row in rows if row["comparable"] is False}
    words = (f" Not comparable, {context.label(pair)}: {why}." for pair, why in found.items())
    return "".join(words)


def _verdict_words(row: Facts) -> tuple[str, str]:
    """Verdicts and rules for people; what is not comparable is explained in the caption."""
    found = [(kind, row[f"{kind}_verdict"], row[f"{kind}_rule"]) for kind in ("level", "gain")]
    found = [entry for entry in found if entry[1]]
    if not found:
        return ABSENT, ABSENT
    if all(verdict == NOT_COMPARABLE for _, verdict, _ in found):
        return NOT_COMPARABLE, "see below the table"
    verdicts = "; ".join(f"{kind}: {verdict}" for kind, verdict, _ in found)
    return verdicts, "; ".join(f"{kind}: {rule}" for kind, _, rule in found)
