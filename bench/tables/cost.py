"""Table 3: what every arm costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench import paper
from bench.collection import Collection
from bench.context import Context
from bench.contrasts import CONFIRMATORY_RATIO
from bench.render import ABSENT, Table, number, ratio_text, view_of
from bench.tables.shared import cells, clocks, mean
from bench.verdicts import NOT_COMPARABLE
from safs.arms import ARMS

COST_HEADINGS = (
    "Pair", "Ratio", "Method", "n", "Epochs final", "Epochs search", "Epochs tune",
    "Epochs", "Epochs / vanilla", "Hours", "Hours / vanilla", "Paper hours",
    "Paper hours / vanilla", "Verdict",
)  # fmt: skip


def cost(collection: Collection, context: Context) -> Table:
    """Table 3: epochs and measured hours of every pruned arm, as such and against vanilla."""
    arms = [name for name in context.arms if name != "dense"]
    rows = [
        _cost_row(collection, context, pair, ratio, arm)
        for pair in context.pairs
        for ratio, arm in cells(collection, pair, arms)
    ]
    caption = (
        "Per replicate, mean over replicates, without dense training and pruning. Hours are "
        f"{clocks(collection)} of the trainings, the paper's are GPU hours of an RTX A4000, which "
        "is never comparable: compare the factors. They take one clock, and on a CPU processor "
        "time only, as wall clock there measures what else ran too. Epochs / vanilla says how "
        "many plain trainings an arm is worth, on any machine. SAFS fast starts from what the "
        "ratio below found, whose cost stands in the row of that ratio. Table 3's own hours fit "
        "no single reading of its folds (see the contradictions)."
    )
    view = view_of((_cost_view(row, context) for row in rows), COST_HEADINGS)
    return Table("cost", "Cost (the paper's Table 3)", caption, pd.DataFrame(rows), view)


def _cost_row(
    collection: Collection, context: Context, pair: str, ratio: float, arm: str
) -> dict[str, Any]:
    def value(column: str, of: str = arm) -> float:
        return mean(collection, pair, ratio, of, column)

    purposes = ("final", "search", "tune")
    hours = paper.hours(context.pairs[pair].published) if ratio == CONFIRMATORY_RATIO else {}
    printed = hours.get(arm, np.nan)
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "method": arm}
    row["n"] = len(collection.series(pair, ratio, arm, "seconds"))
    row |= {f"epochs_{name}": value(f"epochs_{name}") for name in purposes}
    row["epochs"] = value("epochs")
    row["epochs_factor"] = _over(value("epochs"), value("epochs", "vanilla"))
    row["hours"] = value("seconds") / 3600
    comparable = _one_clock(collection, pair, ratio, arm)
    factor = _over(value("seconds"), value("seconds", "vanilla"))
    row["hours_factor"] = factor if comparable else np.nan
    return row | {
        "paper_hours": printed,
        "paper_hours_factor": _over(printed, hours.get("vanilla", np.nan)),
        "verdict": NOT_COMPARABLE if math.isfinite(printed) else "",
    }


def _one_clock(collection: Collection, pair: str, ratio: float, arm: str) -> bool:
    """Whether seconds of the arm may be divided by vanilla's."""
    found = {
        clock
        for name in (arm, "vanilla")
        for clock in zip(
            collection.series(pair, ratio, name, "clock"),
            collection.series(pair, ratio, name, "device"),
            strict=True,
        )
    }
    return len(found) == 1 and ("wall", "cpu") not in found


def _over(value: float, base: float) -> float:
    return value / base if base > 0 else np.nan


def _cost_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        ARMS[row["method"]].label,
        str(row["n"]),
        *(number(row[f"epochs_{name}"], 0) for name in ("final", "search", "tune")),
        number(row["epochs"], 0),
        number(row["epochs_factor"], 1),
        number(row["hours"], 4),
        number(row["hours_factor"], 1),
        number(row["paper_hours"]),
        number(row["paper_hours_factor"], 1),
        row["verdict"] or ABSENT,
    )
    return dict(zip(COST_HEADINGS, texts, strict=True))
