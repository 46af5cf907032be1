"""Runs that failed or have no result."""

from __future__ import annotations

import math

import pandas as pd

from bench.columns import ARM, RATIO, pair_by, words
from bench.context import Context
from bench.records.collection import Collection
from bench.render import ABSENT, Column, Facts, Table, view_of


def told(collection: Collection) -> list[str]:
    """How many runs have final trainings that failed, and how many cannot be counted at all."""
    frame, of = collection.frame, len(collection.frame)
    failed = frame[frame["status"] == "failed"]
    missing, invalid = (int((frame["status"] == state).sum()) for state in ("missing", "invalid"))
    finals = f"{failed['failures'].sum():.0f} of {frame['finals'].sum():,.0f} final trainings"
    return [
        *[f"{finals} failed, in {len(failed)} of {of:,} runs, and count as chance"]
        * bool(len(failed)),
        *[f"{missing:,} of {of:,} runs were not made yet"] * bool(missing),
        *[f"{invalid:,} of {of:,} runs have no valid record and count nowhere"] * bool(invalid),
    ]


def failures(collection: Collection, context: Context) -> Table:
    """Every run that failed, is missing or invalid. Says "none" if there is none."""
    keys = ["pair", "ratio", "replicate", "arm", "status", "failures", "finals", "reason"]
    frame = collection.frame.loc[collection.frame["status"] != "ok", keys]
    columns = (
        pair_by(context.label), RATIO, words("Replicate", "replicate"), ARM,
        words("Status", "status"), Column("Failed finals", _count), words("Reason", "reason"),
    )  # fmt: skip
    view = view_of(frame.to_dict("records"), columns)
    if frame.empty:
        frame = pd.DataFrame([dict.fromkeys(keys, "") | {"status": "none"}])
    caption = (
        "".join(f"{sentence}. " for sentence in told(collection))
        + "A final training that failed counts as chance in every accuracy; a run that is missing "
        "or invalid counts nowhere."
    )
    return Table("failures", "Runs that failed or have no result", caption, frame, view)


def _count(row: Facts) -> str:
    known = math.isfinite(row["finals"])
    return f"{row['failures']:.0f} of {row['finals']:.0f}" if known else ABSENT
