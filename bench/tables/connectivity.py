"""Which classes a pruned network can still reach."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.collection import Collection
from bench.context import Context
from bench.render import ABSENT, Table, number, ratio_text, view_of

CONNECTIVITY_HEADINGS = (
    "Pair", "Ratio", "Replicate", "Connected classes", "Which", "Cap %", "Vanilla %", "SAFS %",
)  # fmt: skip


def connectivity(collection: Collection, context: Context) -> Table:
    """Which classes each pruned net can still reach, and the accuracy that this allows."""
    rows = [
        _connectivity_row(collection, pair, ratio, replicate)
        for pair in context.pairs
        for ratio in collection.ratios(pair)
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
    for arm in ("vanilla", "safs"):
        found = rows.loc[(rows["method"] == arm) & (rows["status"] == "ok"), "top1"]
        row[arm] = float(found.iloc[0]) if len(found) else np.nan
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
