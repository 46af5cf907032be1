"""The table of readings: what becomes of the numbers where the paper can be read in several ways.

A description, not a comparison: it says which reading comes nearest to the printed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import paper
from bench.collection import Collection
from bench.columns import figure, pair_by, words
from bench.context import Context
from bench.render import ABSENT, Column, Facts, Table, number, ratio_text, spread_text, view_of
from bench.tables.shared import mean_and_spread
from safs.arms import ARMS, ordered


class Runs(NamedTuple):
    """The runs of a pair under one reading."""

    pair: str
    title: str
    runs: Collection


def readings(own: Collection, others: Mapping[str, Runs], context: Context) -> Table:
    """Mean accuracy of every arm under every reading, and how far that is from the paper.

    Args:
        own: the profile's own runs.
        others: the readings by name. One has only the arms that it affects; for the distance the
            others are those of the profile.
        context: the profile.
    """
    rows = [
        _row(own, reading, context, ratio, name)
        for pair in context.pairs
        for ratio in context.ratios
        for name, reading in {"profile": Runs(pair, "the profile's own", own), **others}.items()
        if reading.pair == pair
    ]
    arms = [name for name in ordered(context.arms) if name != "dense"]
    columns = (
        pair_by(context.label),
        Column("Ratio", lambda row: ABSENT if row["ratio"] is None else ratio_text(row["ratio"])),
        words("Reading", "title"), words("n", "n"),
        *(Column(ARMS[arm].label, partial(_cell, arm=arm)) for arm in ("dense", *arms)),
        figure("Distance", "distance"),
    )  # fmt: skip
    printed = [_printed(context, pair) for pair in context.pairs]
    view = view_of([*printed, *rows], columns)
    caption = (
        "Percent on the test images: mean ± sample standard deviation over the runs that ended "
        "well, with their number where some failed; an empty cell is an arm that the reading does "
        "not affect. Distance is the mean absolute difference to the paper's Table 2 over the arms "
        "that it prints; a reading under which every run of one of them failed has none. This "
        "describes; it compares nothing, and where the data set is not the paper's the distance "
        "says little."
    )
    caption += _nearest(rows, context)
    return Table("readings", "Readings of the paper", caption, pd.DataFrame(rows), view)


def _row(
    own: Collection, reading: Runs, context: Context, ratio: float, name: str
) -> dict[str, Any]:
    pair, title, runs = reading
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "reading": name, "title": title}
    row["n"] = int((runs.select(pair=pair, arm="dense")["status"] == "ok").sum())
    gaps = []
    for arm in ordered(context.arms):
        values = runs.series(pair, ratio, arm)
        trained = len(runs.select(pair=pair, arm=arm))
        row[f"{arm}_n"] = len(values) if trained else np.nan
        row[f"{arm}_mean"], row[f"{arm}_sd"] = mean_and_spread(runs, pair, ratio, arm)
        printed = paper.published(context.pairs[pair].published, "table2", arm)
        used = values if trained else own.series(pair, ratio, arm)
        if printed and arm != "dense":
            gaps.append(abs(float(used.mean()) - printed["top1"]) if len(used) else np.nan)
    return row | {"distance": float(np.mean(gaps)) if gaps and row["n"] else np.nan}


def _printed(context: Context, pair: str) -> dict[str, Any]:
    """What the paper prints for a pair, as a row."""
    row: dict[str, Any] = {"pair": pair, "ratio": None, "title": "printed in the paper", "n": ""}
    for arm in ("dense", *context.arms):
        entry = paper.published(context.pairs[pair].published, "table2", arm) or {}
        row |= {f"{arm}_n": 0, f"{arm}_mean": entry.get("top1", np.nan), f"{arm}_sd": np.nan}
    return row | {"distance": np.nan}


def _cell(row: Facts, arm: str) -> str:
    """Mean and spread of an arm, and of how many runs if some failed."""
    n, text = row[f"{arm}_n"], spread_text(row[f"{arm}_mean"], row[f"{arm}_sd"])
    if n == 0 and row["n"]:
        return "all failed"
    return f"{text} (n = {n})" if row["n"] and n < row["n"] else text


def _nearest(rows: list[dict[str, Any]], context: Context) -> str:
    """One sentence per pair: the reading that comes nearest."""
    found = ""
    for pair in context.pairs:
        known = [row for row in rows if row["pair"] == pair and np.isfinite(row["distance"])]
        if known:
            row = min(known, key=lambda r: r["distance"])
            found += (
                f" Nearest for {context.label(pair)}: {row['title']}, "
                f"{number(row['distance'])} points away on average."
            )
    unrun = [row["title"] for row in rows if not row["n"]]
    return found + (f" Not run yet: {'; '.join(unrun)}." if unrun else "")
