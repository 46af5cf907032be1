"""Section 5.5: the gain at every pruning ratio."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.collection import Collection
from bench.context import Context
from bench.render import ABSENT, Table, interval_text, number, p_text, ratio_text, view_of
from bench.tables.shared import Judged, gain, judged
from bench.verdicts import RULES_VERSION

RATIO_HEADINGS = (
    "Pair", "Ratio", "n", "SAFS - Vanilla", "95% interval", "Paper", "TOST p (margin)", "Verdict",
    "Rule",
)  # fmt: skip


def ratios(collection: Collection, context: Context) -> Table:
    """Section 5.5: the gain of SAFS over vanilla at every ratio, the printed one beside it."""
    found = judged(collection, context)
    both = {"safs", "vanilla"} <= set(context.arms)
    rows = [
        _ratio_row(collection, pair, ratio, found)
        for pair in context.pairs
        for ratio in collection.ratios(pair)
        if both
    ]
    caption = (
        "Mean paired difference of test top-1 in percentage points, with its paired-t interval. "
        "TOST tests that it is within the margin of the printed gain. Ratios of one replicate "
        f"share a dense network, so lines of a pair are not independent. Rules version "
        f"{RULES_VERSION}."
    )
    view = view_of((_ratio_view(row, context) for row in rows), RATIO_HEADINGS)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["pair"])
    title = "Gain by pruning ratio (the paper's Section 5.5)"
    return Table("ratios", title, caption, frame, view)


def _ratio_row(collection: Collection, pair: str, ratio: float, known: Judged) -> dict[str, Any]:
    ours = gain(collection, pair, ratio, "safs")
    absent = {"published": np.nan, "p_tost": np.nan, "margin": np.nan, "verdict": "", "rule": ""}
    found = known.get((pair, "safs-vanilla", "top1", ratio), absent)
    row = {"pair": pair, "ratio": ratio, "n": ours.n, "gain": ours.mean}
    row |= {"low": ours.low, "high": ours.high}
    return row | {name: found[name] for name in absent} | {"rules_version": RULES_VERSION}


def _ratio_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    printed = math.isfinite(row["published"])
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        str(row["n"]),
        number(row["gain"], sign=True),
        interval_text(row["low"], row["high"]),
        number(row["published"], sign=True),
        f"{p_text(row['p_tost'])} ({row['margin']:g})" if printed else ABSENT,
        row["verdict"] or ABSENT,
        row["rule"] or ABSENT,
    )
    return dict(zip(RATIO_HEADINGS, texts, strict=True))
