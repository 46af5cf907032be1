"""Tables 1 and 2: the arms' accuracy, the paper's beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench import paper, stats
from bench.collection import Collection
from bench.context import Context
from bench.contrasts import CONFIRMATORY_RATIO
from bench.render import ABSENT, Table, interval_text, number, ratio_text, spread_text, view_of
from bench.tables.shared import VERDICTS, Judged, cells, gain, judged
from bench.verdicts import NOT_COMPARABLE, RULES_VERSION
from safs.arms import ARMS

SPREAD = (
    "Mean ± sample standard deviation over replicates; n is the number of runs that ended well, "
    "of those expected."
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


ACCURACY_HEADINGS = (
    "Pair", "Ratio", "Method", "n", "Top-1 %", "Top-5 %", "Gain over vanilla", "95% interval",
    "Validation top-1 %", "Paper top-1", "Paper top-5", "Paper gain", "Verdict", "Rule",
)  # fmt: skip


def _accuracy_table(
    name: str, title: str, arms: list[str], collection: Collection, context: Context
) -> Table:
    found = judged(collection, context)
    rows = [
        accuracy_row(collection, context, pair, ratio, arm, found)
        for pair in context.pairs
        for ratio, arm in cells(collection, pair, arms)
    ]
    caption = (
        f"Percent on the test images. {SPREAD} The gain is the mean paired difference to vanilla "
        "in percentage points with its paired-t interval; validation accuracy selected, test "
        f"accuracy did not. {VERDICTS}"
    )
    caption += _why_not(rows, context)
    view = view_of((_accuracy_view(row, context) for row in rows), ACCURACY_HEADINGS)
    return Table(name, title, caption, pd.DataFrame(rows), view)


def accuracy_row(
    collection: Collection, context: Context, pair: str, ratio: float, arm: str, known: Judged
) -> dict[str, Any]:
    """Means, spreads, the printed values and their verdicts of one (pair, ratio, arm)."""
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "method": arm}
    row["expected"] = len(collection.select(pair=pair, ratio=ratio, arm=arm))
    row["n"] = len(collection.series(pair, ratio, arm))
    for metric in ("top1", "top5", "validation_top1"):
        values = collection.series(pair, ratio, arm, metric)
        row[f"{metric}_mean"] = float(values.mean()) if len(values) else np.nan
        row[f"{metric}_sd"] = stats.spread(values.to_numpy())
    ours = gain(collection, pair, ratio, arm)
    row |= {"gain_mean": ours.mean, "gain_low": ours.low, "gain_high": ours.high}
    row |= _printed(context, pair, ratio, arm)
    for name, what in (("level", arm), ("gain", f"{arm}-vanilla")):
        found = known.get((pair, what, "top1", ratio), {"verdict": "", "rule": ""})
        row |= {f"{name}_verdict": found["verdict"], f"{name}_rule": found["rule"]}
    return row | {"rules_version": RULES_VERSION}


def _printed(context: Context, pair: str, ratio: float, arm: str) -> dict[str, Any]:
    """The paper's numbers for the cell, whether they compare with ours, and why not."""
    info = context.pairs[pair]
    values = {}
    if arm == "dense" or ratio == CONFIRMATORY_RATIO:
        tables = (paper.published(info.published, name, arm) for name in ("table1", "table2"))
        values = next((found for found in tables if found), {})
    printed_gain = paper.gain(info.published, f"{arm}-vanilla", ratio)
    found = {f"paper_{metric}": values.get(metric, np.nan) for metric in ("top1", "top5")}
    found["paper_gain"] = np.nan if printed_gain is None else printed_gain
    printed = bool(values) or printed_gain is not None
    return (
        found
        | {"comparable": info.comparable if printed else None}
        | {"why_not": "" if info.comparable or not printed else info.why_not}
    )


def _why_not(rows: list[dict[str, Any]], context: Context) -> str:
    """For the caption: why the paper's numbers are not comparable, once per pair."""
    found = {row["pair"]: row["why_not"] for row in rows if row["comparable"] is False}
    words = (f" Not comparable, {context.label(pair)}: {why}." for pair, why in found.items())
    return "".join(words)


def _accuracy_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    verdict, rule = _verdict_words(row)
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        ARMS[row["method"]].label,
        f"{row['n']} of {row['expected']}",
        spread_text(row["top1_mean"], row["top1_sd"]),
        spread_text(row["top5_mean"], row["top5_sd"]),
        number(row["gain_mean"], sign=True),
        interval_text(row["gain_low"], row["gain_high"]),
        spread_text(row["validation_top1_mean"], row["validation_top1_sd"]),
        number(row["paper_top1"]),
        number(row["paper_top5"]),
        number(row["paper_gain"], sign=True),
        verdict,
        rule,
    )
    return dict(zip(ACCURACY_HEADINGS, texts, strict=True))


def _verdict_words(row: dict[str, Any]) -> tuple[str, str]:
    """Verdicts and rules for people; what is not comparable is explained in the caption."""
    found = [(kind, row[f"{kind}_verdict"], row[f"{kind}_rule"]) for kind in ("level", "gain")]
    found = [entry for entry in found if entry[1]]
    if not found:
        return ABSENT, ABSENT
    if all(verdict == NOT_COMPARABLE for _, verdict, _ in found):
        return NOT_COMPARABLE, "see below the table"
    verdicts = "; ".join(f"{kind}: {verdict}" for kind, verdict, _ in found)
    return verdicts, "; ".join(f"{kind}: {rule}" for kind, _, rule in found)
