"""Which classes a pruned network can still reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.columns import RATIO, figure, pair_by, words
from bench.context import Context
from bench.records.collection import Collection
from bench.render import ABSENT, Column, Facts, Table


def connectivity(collection: Collection, context: Context) -> Table:
    """Which classes each pruned net can still reach, and the accuracy that this allows."""
    rows = [
        _row(collection, pair, ratio, replicate)
        for pair in context.pairs
        for ratio in collection.ratios(pair)
        for replicate in sorted(set(collection.select(pair=pair)["replicate"]))
    ]
    columns = (
        pair_by(context.label), RATIO, words("Replicate", "replicate"),
        _where_known("Connected classes", "{connected:.0f} of {classes:.0f}".format_map),
        _where_known("Which", lambda row: row["connected_classes"] or "none"),
        figure("Cap %", "cap"), figure("Vanilla %", "vanilla"), figure("SAFS %", "safs"),
    )  # fmt: skip
    caption = (
        "A class is connected if a path of kept weights leads from the input to its output. With "
        "c connected classes the c + 1 most frequent classes bound the accuracy: one class without "
        "a path can still win by its bias."
    )
    return Table.of("connectivity", "Connectivity of the pruned networks", caption, rows, columns)


def _row(collection: Collection, pair: str, ratio: float, replicate: int) -> dict[str, Any]:
    rows = collection.select(pair=pair, ratio=ratio, replicate=replicate)
    known = rows.dropna(subset=["connected"])
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "replicate": replicate}
    for column in ("connected", "classes", "cap", "connected_classes"):
        row[column] = known[column].iloc[0] if len(known) else np.nan
    for arm in ("vanilla", "safs"):
        found = rows.loc[rows["arm"] == arm, "top1"].dropna()
        row[arm] = float(found.iloc[0]) if len(found) else np.nan
    return row


def _where_known(heading: str, text: Callable[[Facts], str]) -> Column:
    return Column(heading, lambda row: text(row) if math.isfinite(row["connected"]) else ABSENT)
