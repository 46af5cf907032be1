"""Section 5.5: the gain at every pruning ratio."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.columns import EQUIVALENT, RATIO, bounds, figure, pair_by, words
from bench.context import Context
from bench.records.collection import Collection
from bench.render import Table
from bench.tables.shared import Judged, cells, gain, judged
from bench.verdicts import RULES_VERSION


def ratios(collection: Collection, context: Context) -> Table:
    """Section 5.5: the gain of SAFS over vanilla at every ratio, the printed one beside it."""
    found = judged(collection, context)
    both = {"safs", "vanilla"} <= set(context.arms)
    asked = cells(collection, context, ["safs"] if both else [])
    rows = [_row(collection, pair, ratio, found) for pair, ratio, _ in asked]
    columns = (
        pair_by(context.label), RATIO, words("n", "n"), figure("SAFS - Vanilla", "gain", sign=True),
        bounds(), figure("Paper", "published", sign=True), EQUIVALENT, words("Verdict", "verdict"),
        words("Rule", "rule"),
    )  # fmt: skip
    caption = (
        "Mean paired difference of test top-1 in percentage points, with its exact interval. "
        "Within the margin of the printed gain: the exact 90% interval is. Ratios of one replicate "
        f"share a dense network, so lines of a pair are not independent. Rules version "
        f"{RULES_VERSION}."
    )
    title = "Gain by pruning ratio (the paper's Section 5.5)"
    return Table.of("ratios", title, caption, rows, columns, bare=["pair"])


def _row(collection: Collection, pair: str, ratio: float, known: Judged) -> dict[str, Any]:
    ours = gain(collection, pair, ratio, "safs")
    absent = {"published": np.nan, "equivalent": None, "margin": np.nan, "verdict": "", "rule": ""}
    found = known.get((pair, "safs-vanilla", "top1", ratio), absent)
    row = {"pair": pair, "ratio": ratio, "n": ours.n, **ours.facts("gain")}
    return row | {name: found[name] for name in absent} | {"rules_version": RULES_VERSION}
