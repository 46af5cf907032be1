"""The table of readings: what becomes of the numbers where the paper can be read in several ways.

A description, not a comparison: it says which reading comes nearest to the printed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import paper, stats
from bench.collection import Collection
from bench.context import Context
from bench.render import ABSENT, Table, number, ratio_text, spread_text, view_of
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
    printed = [_printed_view(context, pair, arms) for pair in context.pairs]
    view = [*printed, *(_view(row, context, arms) for row in rows)]
    caption = (
        "Percent on the test images: mean ± sample standard deviation over the runs that ended "
        "well, with their number where some failed; an empty cell is an arm that the reading does "
        "not affect. Distance is the mean absolute difference to the paper's Table 2 over the arms "
        "that it prints; a reading under which every run of one of them failed has none. This "
        "describes; it compares nothing, and where the data set is not the paper's the distance "
        "says little."
    )
    headings = _headings(arms)
    return Table(
        "readings", "Readings of the paper", caption + _nearest(rows, context), pd.DataFrame(rows),
        view_of(view, headings),
    )  # fmt: skip


def _headings(arms: list[str]) -> list[str]:
    labels = [ARMS[name].label for name in arms]
    return ["Pair", "Ratio", "Reading", "n", "Dense", *labels, "Distance"]


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
        row[f"{arm}_mean"] = float(values.mean()) if len(values) else np.nan
        row[f"{arm}_sd"] = stats.spread(values.to_numpy())
        printed = paper.published(context.pairs[pair].published, "table2", arm)
        used = values if trained else own.series(pair, ratio, arm)
        if printed and arm != "dense":
            gaps.append(abs(float(used.mean()) - printed["top1"]) if len(used) else np.nan)
    return row | {"distance": float(np.mean(gaps)) if gaps and row["n"] else np.nan}


def _view(row: dict[str, Any], context: Context, arms: list[str]) -> dict[str, str]:
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        row["title"],
        str(row["n"]),
        *(_cell(row, name) for name in ("dense", *arms)),
        number(row["distance"]),
    )
    return dict(zip(_headings(arms), texts, strict=True))


def _cell(row: dict[str, Any], arm: str) -> str:
    """Mean and spread of an arm, and of how many runs if some failed."""
    n, text = row[f"{arm}_n"], spread_text(row[f"{arm}_mean"], row[f"{arm}_sd"])
    if n == 0 and row["n"]:
        return "all failed"
    return f"{text} (n = {n})" if n < row["n"] else text


def _printed_view(context: Context, pair: str, arms: list[str]) -> dict[str, str]:
    source = context.pairs[pair].published
    found = (paper.published(source, "table2", name) for name in ("dense", *arms))
    values = [number(entry["top1"]) if entry else ABSENT for entry in found]
    texts = (context.label(pair), ABSENT, "printed in the paper", ABSENT, *values, ABSENT)
    return dict(zip(_headings(arms), texts, strict=True))


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
