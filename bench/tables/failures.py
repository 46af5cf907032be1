"""Runs without a result."""

from __future__ import annotations

import pandas as pd

from bench.collection import Collection
from bench.context import Context
from bench.render import Table, ratio_text, view_of
from safs.arms import ARMS

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
