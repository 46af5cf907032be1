"""Runs without a result."""

from __future__ import annotations

import pandas as pd

from bench.collection import Collection
from bench.columns import METHOD, RATIO, pair_by, words
from bench.context import Context
from bench.render import Table, view_of


def failures(collection: Collection, context: Context) -> Table:
    """Every run that has no result: failed, missing or invalid. Says "none" if there is none."""
    keys = ["pair", "ratio", "replicate", "method", "status", "reason"]
    frame = collection.frame.loc[collection.frame["status"] != "ok", keys]
    columns = (
        pair_by(context.label), RATIO, words("Replicate", "replicate"), METHOD,
        words("Status", "status"), words("Reason", "reason"),
    )  # fmt: skip
    view = view_of(frame.to_dict("records"), columns)
    if frame.empty:
        frame = pd.DataFrame([dict.fromkeys(keys, "") | {"status": "none"}])
    caption = f"{len(view)} of {len(collection.frame)} expected runs have no result."
    return Table("failures", "Runs without a result", caption, frame, view)
