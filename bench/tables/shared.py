"""What several tables look up: cells, gains, verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench import stats
from bench.context import Context
from bench.records.collection import Collection
from bench.tables import printed
from bench.verdicts import RULES_VERSION
from safs.arms import ordered

PURPOSES = ("final", "search", "tune")
"""What epochs and seconds are spent on."""


def cells(
    collection: Collection, context: Context, arms: Sequence[str]
) -> Iterator[tuple[str, float, str]]:
    """(pair, ratio, arm) in reading order: dense once a pair, then each ratio's pruned arms."""
    pruned = [name for name in ordered(arms) if name != "dense"]
    for pair in context.pairs:
        yield from [(pair, 0.0, "dense")] if "dense" in arms else []
        yield from ((pair, ratio, arm) for ratio in collection.ratios(pair) for arm in pruned)


Judged = dict[tuple[str, str, str, float], dict[str, Any]]
"""The verdicts on what the paper prints, by pair, arm or contrast, metric and ratio."""
VERDICTS = (
    "A verdict is on top-1 (level) and on the gain over vanilla (gain), where the paper prints "
    f"them, by the rules of version {RULES_VERSION}."
)


def judged(collection: Collection, context: Context) -> Judged:
    """The verdicts of :func:`bench.tables.printed.rows`, to look up."""
    rows = printed.rows(collection, context)
    return {(row["pair"], row["what"], row["metric"], row["ratio"]): row for row in rows}


def gain(collection: Collection, pair: str, ratio: float, arm: str) -> stats.Interval:
    """Mean paired difference to vanilla (points), exact interval; none for vanilla and dense."""
    if arm in ("dense", "vanilla"):
        return stats.exact_interval([])
    return stats.exact_interval(collection.difference(pair, ratio, arm, "vanilla"))


def mean(collection: Collection, pair: str, ratio: float, arm: str, column: str) -> float:
    """Mean of a column over the runs that have a value; NaN without any."""
    values = collection.series(pair, ratio, arm, column)
    return float(values.mean()) if len(values) else np.nan


def time_factor(collection: Collection, pair: str, ratio: float, arm: str) -> float:
    """Seconds of an arm over vanilla's; NaN where the two may not be divided.

    They take one clock, and on a CPU processor time only: wall clock there measures what else ran.
    """
    found = set[tuple[object, ...]]()
    for name in (arm, "vanilla"):
        of = [collection.series(pair, ratio, name, column) for column in ("clock", "device")]
        found.update(zip(*of, strict=True))
    if len(found) > 1:
        found.discard(("", ""))  # runs that are missing
    if len(found) != 1 or ("wall", "cpu") in found:
        return np.nan
    seconds, base = (mean(collection, pair, ratio, name, "seconds") for name in (arm, "vanilla"))
    return over(seconds, base)


def over(value: float, base: float) -> float:
    """A quotient; NaN where there is nothing to divide by."""
    return value / base if base > 0 else np.nan


def mean_and_spread(
    collection: Collection, pair: str, ratio: float, arm: str, column: str = "top1"
) -> tuple[float, float]:
    """Mean and sample standard deviation of a column, likewise."""
    values = collection.series(pair, ratio, arm, column)
    return mean(collection, pair, ratio, arm, column), stats.spread(values.to_numpy())


def clocks(collection: Collection) -> str:
    """What the seconds of the runs are of, in words."""
    found = sorted(set(collection.frame["clock"]) - {""})
    words = {
        "processor": "processor time of one core",
        "wall": "wall clock on one worker, other load of the machine included,",
    }
    return " and ".join(words[clock] for clock in found) or "time"
