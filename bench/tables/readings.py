"""The table of readings: what becomes of the numbers where the paper can be read in several ways.

A description of how far each reading is from the printed numbers, and of whether that is told apart
from the profile's own reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import paper, stats
from bench.columns import figure, pair_by, words
from bench.context import Context
from bench.records.collection import Collection
from bench.render import (
    ABSENT,
    Column,
    Facts,
    Table,
    interval_text,
    number,
    ratio_text,
    spread_text,
    view_of,
)
from bench.tables.shared import mean_and_spread
from safs.arms import ARMS, ordered

CAPTION = (
    "Percent on the test images: mean ± sample standard deviation over replicates, each the mean "
    "over its final trainings, of which a failed one counts as chance, with their number where "
    "results are missing; an empty cell is an arm that the reading does not affect. The distance "
    "of a replicate is its mean absolute difference to the paper's Table 2 over the pruned arms "
    "that it prints, for arms that a reading does not affect the profile's own; Distance is the "
    "mean over the replicates in which all of these have a result. Nearer or farther is the mean "
    "difference of that distance to the profile's own reading in the same replicates, with its "
    "95 % paired-t interval, not corrected for being many. Where the data set is not the paper's "
    "the distance says little about what the authors ran."
)


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
        figure("Distance", "distance"), Column("Nearer (-) or farther (+)", _apart),
    )  # fmt: skip
    printed = [_printed(context, pair) for pair in context.pairs]
    view = view_of([*printed, *rows], columns)
    caption = " ".join([CAPTION, *_told_apart(rows, context)])
    return Table("readings", "Readings of the paper", caption, pd.DataFrame(rows), view)


def _row(
    own: Collection, reading: Runs, context: Context, ratio: float, name: str
) -> dict[str, Any]:
    pair, title, runs = reading
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "reading": name, "title": title}
    row["n"] = len(runs.series(pair, ratio, "dense"))
    for arm in ordered(context.arms):
        values = runs.series(pair, ratio, arm)
        row[f"{arm}_n"] = len(values) if len(runs.select(pair=pair, arm=arm)) else np.nan
        row[f"{arm}_mean"], row[f"{arm}_sd"] = mean_and_spread(runs, pair, ratio, arm)
    printed = _table2(context, pair)
    theirs, ours = (_distances(each, own, printed, pair, ratio) for each in (runs, own))
    row["distance"] = float(theirs.mean()) if row["n"] else np.nan
    affected = runs is not own and any(np.isfinite(row[f"{arm}_n"]) for arm in printed)
    apart = (theirs - ours).dropna() if affected and row["n"] else theirs.iloc[:0]
    return row | stats.mean_interval(apart.to_numpy()).facts("difference", "difference_")


def _table2(context: Context, pair: str) -> dict[str, float]:
    """Top-1 that the paper's Table 2 prints for a pair, by arm."""
    published = context.pairs[pair].published
    found = {arm: paper.published(published, "table2", arm) for arm in ordered(context.arms)}
    return {arm: entry["top1"] for arm, entry in found.items() if entry and arm != "dense"}


def _distances(
    runs: Collection, own: Collection, printed: Mapping[str, float], pair: str, ratio: float
) -> pd.Series[float]:
    """The distance of each replicate to the printed numbers, indexed by replicate."""
    gaps = []
    for arm, top1 in printed.items():
        used = runs if len(runs.select(pair=pair, arm=arm)) else own
        gaps.append((used.series(pair, ratio, arm) - top1).abs().rename(arm))
    if not gaps:
        return pd.Series(dtype=float)
    return pd.concat(gaps, axis=1, join="inner").mean(axis=1)


def _printed(context: Context, pair: str) -> dict[str, Any]:
    """What the paper prints for a pair, as a row."""
    row: dict[str, Any] = {"pair": pair, "ratio": None, "title": "printed in the paper", "n": ""}
    for arm in ("dense", *context.arms):
        entry = paper.published(context.pairs[pair].published, "table2", arm) or {}
        row |= {f"{arm}_n": 0, f"{arm}_mean": entry.get("top1", np.nan), f"{arm}_sd": np.nan}
    return row | {"distance": np.nan, "difference": np.nan}


def _cell(row: Facts, arm: str) -> str:
    """Mean and spread of an arm, and of how many replicates if some have no result."""
    n, text = row[f"{arm}_n"], spread_text(row[f"{arm}_mean"], row[f"{arm}_sd"])
    if n == 0 and row["n"]:
        return "no result"
    return f"{text} (n = {n})" if row["n"] and n < row["n"] else text


def _apart(row: Facts) -> str:
    if not np.isfinite(row["difference"]):
        return ABSENT
    bounds = interval_text(row["difference_low"], row["difference_high"])
    return f"{number(row['difference'], sign=True)} ({bounds})"


def _told_apart(rows: list[dict[str, Any]], context: Context) -> Iterator[str]:
    """A sentence per pair and ratio: which readings the intervals tell apart from the own one."""
    for pair in context.pairs:
        for ratio in context.ratios:
            cell = [r for r in rows if (r["pair"], r["ratio"]) == (pair, ratio)]
            known = [r for r in cell if np.isfinite(r["difference"])]
            nearer = [r["title"] for r in known if r["difference_high"] < 0]
            farther = [r["title"] for r in known if r["difference_low"] > 0]
            rest = len(known) - len(nearer) - len(farther)
            if known:
                yield (
                    f"{context.label(pair)}, {ratio_text(ratio)}: told apart from the profile's "
                    f"own reading, nearer: {'; '.join(nearer) or 'none'}; farther: "
                    f"{'; '.join(farther) or 'none'}; not told apart: {rest} of {len(known)}."
                )
    if unrun := [row["title"] for row in rows if not row["n"]]:
        yield f"Not run yet: {'; '.join(unrun)}."
