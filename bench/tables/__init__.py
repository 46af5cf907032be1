"""The tables of results, and the metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bench import render
from bench.context import Context
from bench.records.collection import Collection
from bench.render import Table, csv_text
from bench.tables.accuracy import table1, table2
from bench.tables.compression import compression
from bench.tables.connectivity import connectivity
from bench.tables.cost import cost
from bench.tables.failures import failures
from bench.tables.ratios import ratios
from bench.tables.shared import cells, mean_and_spread
from safs.files import write_text

MADE = (table1, table2, ratios, connectivity, compression, cost, failures)


def build(collection: Collection, context: Context) -> dict[str, Table]:
    """Every table by name. Raises SafsError if the profile does not cover the collection."""
    context.require(collection)
    return {table.name: table for table in (make(collection, context) for make in MADE)}


def write_all(collection: Collection, context: Context, folder: Path) -> dict[str, Path]:
    """Write runs.csv, summary.json and every table; returns the paths by file name."""
    paths = render.write_all(build(collection, context).values(), folder)
    paths["runs.csv"] = write_text(folder / "runs.csv", csv_text(collection.frame))
    text = json.dumps(summary(collection, context), indent=1, allow_nan=False) + "\n"
    paths["summary.json"] = write_text(folder / "summary.json", text)
    return paths


def summary(collection: Collection, context: Context) -> dict[str, Any]:
    """Means per pair, ratio and arm and counts of runs, for ``dvc metrics``; null is absent."""
    counts = collection.frame["status"].value_counts()
    states = ("ok", "failed", "missing", "invalid")
    top1: dict[str, dict[str, Any]] = {pair: {} for pair in context.pairs}
    for pair, ratio, arm in cells(collection, context, context.arms):
        n = len(collection.series(pair, ratio, arm))
        found = zip(("mean", "sd"), mean_and_spread(collection, pair, ratio, arm), strict=True)
        entry = {key: round(x, 4) if math.isfinite(x) else None for key, x in found}
        at = str(float(ratio)) if ratio else "dense"
        top1[pair].setdefault(at, {})[arm] = entry | {"n": n}
    return {
        "profile": context.profile,
        "protocol": {"version": context.protocol.version, "preset": context.protocol.preset},
        "runs": {"expected": len(collection.frame)}
        | {state: int(counts.get(state, 0)) for state in states},
        "top1": top1,
    }
