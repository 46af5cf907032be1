"""What several tables look up: cells, gains, verdicts."""

from __future__ import annotations

import numpy as np

from bench import stats
from bench.collection import Collection
from bench.context import Context
from bench.tables import comparisons as compare
from bench.verdicts import RULES_VERSION
from safs.arms import ordered


def cells(collection: Collection, pair: str, arms: list[str]) -> list[tuple[float, str]]:
    """(ratio, arm) in reading order: dense once, then every ratio with the pruned arms."""
    dense = [(0.0, "dense")] if "dense" in arms else []
    pruned = [name for name in ordered(arms) if name != "dense"]
    return dense + [(ratio, name) for ratio in collection.ratios(pair) for name in pruned]


Judged = dict[tuple[str, str, str, float], compare.Row]
"""The verdicts on what the paper prints, by pair, arm or contrast, metric and ratio."""
VERDICTS = (
    "A verdict is on top-1 (level) and on the gain over vanilla (gain), where the paper prints "
    f"them, by the rules of version {RULES_VERSION}."
)


def judged(collection: Collection, context: Context) -> Judged:
    """The verdicts of :func:`bench.tables.comparisons.paper_rows`, to look up."""
    rows = compare.paper_rows(collection, context)
    return {(row["pair"], row["what"], row["metric"], row["ratio"]): row for row in rows}


def gain(collection: Collection, pair: str, ratio: float, arm: str) -> stats.Interval:
    """Mean paired difference to vanilla (points) and its interval; none for vanilla and dense."""
    if arm in ("dense", "vanilla"):
        return stats.mean_interval([])
    both = collection.paired(pair, ratio, arm, "vanilla")
    return stats.mean_interval((both[arm] - both["vanilla"]).to_numpy())


def mean(collection: Collection, pair: str, ratio: float, arm: str, column: str) -> float:
    """Mean of a column over the runs that are ok; NaN without any."""
    values = collection.series(pair, ratio, arm, column)
    return float(values.mean()) if len(values) else np.nan


def clocks(collection: Collection) -> str:
    """What the seconds of the runs are of, in words."""
    found = sorted(set(collection.frame["clock"]) - {""})
    words = {
        "processor": "processor time of one core",
        "wall": "wall clock on one worker, other load of the machine included,",
    }
    return " and ".join(words[clock] for clock in found) or "time"
