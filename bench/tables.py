"""The tables of results: main comparison, ablation, connectivity, cost, failures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import paper, stats
from bench.arms import ARMS, CONFIRMATORY_RATIO, ordered
from bench.context import Context
from bench.files import write_text
from bench.records import Collection
from bench.render import ABSENT, Table, number, ratio_text, spread_text, view_of

SPREAD = (
    "Mean ± sample standard deviation over replicates; n is the number of runs that ended well, "
    "of those expected."
)
MAIN = ("dense", "vanilla", "srelu", "safs")
"""The arms of the paper's Table 1."""


def build(collection: Collection, context: Context) -> dict[str, Table]:
    """Every table by name. Raises BenchError if the profile does not cover the collection."""
    context.require(collection)
    made = (table1, table2, connectivity, cost, failures)
    return {table.name: table for table in (make(collection, context) for make in made)}


def write_all(collection: Collection, context: Context, folder: Path) -> dict[str, Path]:
    """Write runs.csv, summary.json and every table; returns the paths by file name."""
    paths: dict[str, Path] = {}
    for table in build(collection, context).values():
        paths |= table.write(folder)
    runs = collection.frame.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    paths["runs.csv"] = write_text(folder / "runs.csv", runs)
    text = json.dumps(summary(collection, context), indent=1, allow_nan=False) + "\n"
    paths["summary.json"] = write_text(folder / "summary.json", text)
    return paths


def table1(collection: Collection, context: Context) -> Table:
    """Table 1: dense, vanilla, SReLU and SAFS; top-1, top-5, gain, the paper's beside ours."""
    methods = [name for name in context.methods if name in MAIN]
    title = "Accuracy against the baselines (the paper's Table 1)"
    return _accuracy_table("table1", title, methods, collection, context)


def table2(collection: Collection, context: Context) -> Table:
    """Table 2: each stage alone, both, and the control arms that the paper lacks."""
    title = "Ablation: what each stage adds (the paper's Table 2)"
    return _accuracy_table("table2", title, list(context.methods), collection, context)


ACCURACY_HEADINGS = (
    "Pair", "Ratio", "Method", "n", "Top-1 %", "Top-5 %", "Gain over vanilla", "Validation top-1 %",
    "Paper top-1", "Paper top-5", "Paper gain", "Against the paper",
)  # fmt: skip


def _accuracy_table(
    name: str, title: str, methods: list[str], collection: Collection, context: Context
) -> Table:
    rows = [
        accuracy_row(collection, context, pair, ratio, method)
        for pair in context.pairs
        for ratio, method in _cells(context, methods)
    ]
    caption = (
        f"Percent on the test images. {SPREAD} The gain is the mean paired difference to vanilla "
        "in percentage points; validation accuracy selected, test accuracy did not."
    )
    caption += _why_not(rows, context)
    view = view_of((_accuracy_view(row, context) for row in rows), ACCURACY_HEADINGS)
    return Table(name, title, caption, pd.DataFrame(rows), view)


def _cells(context: Context, methods: list[str]) -> list[tuple[float, str]]:
    """(ratio, method) in reading order: dense once, then every ratio with the pruned methods."""
    dense = [(0.0, "dense")] if "dense" in methods else []
    pruned = [name for name in ordered(methods) if name != "dense"]
    return dense + [(ratio, name) for ratio in context.ratios for name in pruned]


def accuracy_row(
    collection: Collection, context: Context, pair: str, ratio: float, method: str
) -> dict[str, Any]:
    """Means, spreads and the printed values of one (pair, ratio, method)."""
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "method": method}
    row["expected"] = len(collection.select(pair=pair, ratio=ratio, method=method))
    row["n"] = len(collection.series(pair, ratio, method))
    for metric in ("top1", "top5", "validation_top1"):
        values = collection.series(pair, ratio, method, metric)
        row[f"{metric}_mean"] = float(values.mean()) if len(values) else np.nan
        row[f"{metric}_sd"] = stats.spread(values.to_numpy())
    row["gain_mean"] = _gain(collection, pair, ratio, method)
    return row | _printed(context, pair, ratio, method)


def _gain(collection: Collection, pair: str, ratio: float, method: str) -> float:
    if method in ("dense", "vanilla"):
        return np.nan
    both = collection.paired(pair, ratio, method, "vanilla")
    return float((both[method] - both["vanilla"]).mean()) if len(both) else np.nan


def _printed(context: Context, pair: str, ratio: float, method: str) -> dict[str, Any]:
    """The paper's numbers for the cell, whether they compare with ours, and why not."""
    info = context.pairs[pair]
    values = {}
    if method == "dense" or ratio == CONFIRMATORY_RATIO:
        tables = (paper.published(info.published, name, method) for name in ("table1", "table2"))
        values = next((found for found in tables if found), {})
    gain = paper.gain(info.published, f"{method}-vanilla", ratio)
    found = {f"paper_{metric}": values.get(metric, np.nan) for metric in ("top1", "top5")}
    found["paper_gain"] = np.nan if gain is None else gain
    printed = bool(values) or gain is not None
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
    against = {None: ABSENT, True: "comparable", False: "not comparable"}
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        ARMS[row["method"]].label,
        f"{row['n']} of {row['expected']}",
        spread_text(row["top1_mean"], row["top1_sd"]),
        spread_text(row["top5_mean"], row["top5_sd"]),
        number(row["gain_mean"], sign=True),
        spread_text(row["validation_top1_mean"], row["validation_top1_sd"]),
        number(row["paper_top1"]),
        number(row["paper_top5"]),
        number(row["paper_gain"], sign=True),
        against[row["comparable"]],
    )
    return dict(zip(ACCURACY_HEADINGS, texts, strict=True))


CONNECTIVITY_HEADINGS = (
    "Pair", "Ratio", "Replicate", "Connected classes", "Which", "Cap %", "Vanilla %", "SAFS %",
)  # fmt: skip


def connectivity(collection: Collection, context: Context) -> Table:
    """Which classes each pruned net can still reach, and the accuracy that this allows."""
    rows = [
        _connectivity_row(collection, pair, ratio, replicate)
        for pair in context.pairs
        for ratio in context.ratios
        for replicate in sorted(set(collection.select(pair=pair)["replicate"]))
    ]
    caption = (
        "A class is connected if a path of kept weights leads from the input to its output. With "
        "c connected classes the c + 1 most frequent classes bound the accuracy: one class without "
        "a path can still win by its bias."
    )
    view = view_of((_connectivity_view(row, context) for row in rows), CONNECTIVITY_HEADINGS)
    title = "Connectivity of the pruned networks"
    return Table("connectivity", title, caption, pd.DataFrame(rows), view)


def _connectivity_row(
    collection: Collection, pair: str, ratio: float, replicate: int
) -> dict[str, Any]:
    rows = collection.select(pair=pair, ratio=ratio, replicate=replicate)
    known = rows.dropna(subset=["connected"])
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "replicate": replicate}
    for column in ("connected", "classes", "cap", "connected_classes"):
        row[column] = known[column].iloc[0] if len(known) else np.nan
    for method in ("vanilla", "safs"):
        found = rows.loc[(rows["method"] == method) & (rows["status"] == "ok"), "top1"]
        row[method] = float(found.iloc[0]) if len(found) else np.nan
    return row


def _connectivity_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    known = math.isfinite(row["connected"])
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        str(row["replicate"]),
        f"{row['connected']:.0f} of {row['classes']:.0f}" if known else ABSENT,
        (row["connected_classes"] or "none") if known else ABSENT,
        *(number(row[name]) for name in ("cap", "vanilla", "safs")),
    )
    return dict(zip(CONNECTIVITY_HEADINGS, texts, strict=True))


COST_HEADINGS = (
    "Pair", "Ratio", "Method", "n", "Epochs final", "Epochs search", "Epochs tune",
    "Epochs / vanilla", "Hours", "Hours / vanilla", "Compression", "Paper hours",
    "Paper hours / vanilla",
)  # fmt: skip


def cost(collection: Collection, context: Context) -> Table:
    """Table 3: epochs and measured hours of every pruned arm, as such and against vanilla."""
    methods = [name for name in context.methods if name != "dense"]
    rows = [
        _cost_row(collection, context, pair, ratio, method)
        for pair in context.pairs
        for ratio, method in _cells(context, methods)
    ]
    caption = (
        "Per replicate, mean over replicates, without dense training and pruning. Hours are wall "
        "clock of the trainings on this device, the paper's are GPU hours of an RTX A4000: compare "
        "the factors, not the hours. Compression is total over non-zero parameters."
    )
    view = view_of((_cost_view(row, context) for row in rows), COST_HEADINGS)
    return Table("cost", "Cost (the paper's Table 3)", caption, pd.DataFrame(rows), view)


def _cost_row(
    collection: Collection, context: Context, pair: str, ratio: float, method: str
) -> dict[str, Any]:
    def mean(column: str, of: str = method) -> float:
        values = collection.series(pair, ratio, of, column)
        return float(values.mean()) if len(values) else np.nan

    purposes = ("final", "search", "tune")
    hours = paper.hours(context.pairs[pair].published) if ratio == CONFIRMATORY_RATIO else {}
    printed = hours.get(method, np.nan)
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "method": method}
    row["n"] = len(collection.series(pair, ratio, method, "seconds"))
    row |= {f"epochs_{name}": mean(f"epochs_{name}") for name in purposes}
    row["epochs_factor"] = _over(mean("epochs"), mean("epochs", "vanilla"))
    row["hours"] = mean("seconds") / 3600
    row["hours_factor"] = _over(mean("seconds"), mean("seconds", "vanilla"))
    row["compression"] = mean("compression")
    return row | {
        "paper_hours": printed,
        "paper_hours_factor": _over(printed, hours.get("vanilla", np.nan)),
    }


def _over(value: float, base: float) -> float:
    return value / base if base > 0 else np.nan


def _cost_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        ARMS[row["method"]].label,
        str(row["n"]),
        *(number(row[f"epochs_{name}"], 0) for name in ("final", "search", "tune")),
        number(row["epochs_factor"], 1),
        number(row["hours"], 4),
        number(row["hours_factor"], 1),
        number(row["compression"], 1),
        number(row["paper_hours"]),
        number(row["paper_hours_factor"], 1),
    )
    return dict(zip(COST_HEADINGS, texts, strict=True))


FAILURE_HEADINGS = ("Pair", "Ratio", "Replicate", "Method", "Status", "Reason")


def failures(collection: Collection, context: Context) -> Table:
    """Every run that has no result: failed, missing or invalid. Says "none" if there is none."""
    columns = ["pair", "ratio", "replicate", "method", "status", "reason"]
    frame = collection.frame.loc[collection.frame["status"] != "ok", columns]
    views = [
        {
            "Pair": context.label(row["pair"]),
            "Ratio": ratio_text(row["ratio"]),
            "Replicate": str(row["replicate"]),
            "Method": ARMS[row["method"]].label,
            "Status": row["status"],
            "Reason": row["reason"],
        }
        for row in frame.to_dict("records")
    ]
    if frame.empty:
        frame = pd.DataFrame([dict.fromkeys(columns, "") | {"status": "none"}])
    caption = f"{len(views)} of {len(collection.frame)} expected runs have no result."
    title = "Runs without a result"
    return Table("failures", title, caption, frame, view_of(views, FAILURE_HEADINGS))


def summary(collection: Collection, context: Context) -> dict[str, Any]:
    """Means per pair, ratio and method and counts of runs, for ``dvc metrics``; null is absent."""
    counts = collection.frame["status"].value_counts()
    states = ("ok", "failed", "missing", "invalid")
    return {
        "profile": context.profile,
        "protocol": {"version": context.protocol.version, "preset": context.protocol.preset},
        "runs": {"expected": len(collection.frame)}
        | {state: int(counts.get(state, 0)) for state in states},
        "top1": {pair: _summary_of(collection, context, pair) for pair in context.pairs},
    }


def _summary_of(collection: Collection, context: Context, pair: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ratio, method in _cells(context, list(context.methods)):
        values = collection.series(pair, ratio, method)
        mean = round(float(values.mean()), 4) if len(values) else None
        sd = stats.spread(values.to_numpy())
        entry = {"mean": mean, "sd": round(sd, 4) if math.isfinite(sd) else None, "n": len(values)}
        found.setdefault(f"{ratio:.3g}" if ratio else "dense", {})[method] = entry
    return found
