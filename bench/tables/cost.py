"""Table 3: what every arm costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench import paper
from bench.columns import ARM, RATIO, figure, pair_by, words
from bench.context import Context
from bench.contrasts import MAIN_RATIO
from bench.records.collection import Collection
from bench.render import Column, Table, significant
from bench.tables.shared import PURPOSES, cells, clocks, mean, over, time_factor
from bench.verdicts import NOT_COMPARABLE


def cost(collection: Collection, context: Context) -> Table:
    """Table 3: epochs and measured hours of every pruned arm, as such and against vanilla."""
    arms = [name for name in context.arms if name != "dense"]
    rows = [_row(collection, context, *cell) for cell in cells(collection, context, arms)]
    columns = (
        pair_by(context.label), RATIO, ARM, words("n", "n"),
        *(figure(f"Epochs {name}", f"epochs_{name}", 0) for name in PURPOSES),
        figure("Epochs", "epochs", 0), figure("Epochs / vanilla", "epochs_factor", 1),
        Column("Hours", lambda row: significant(row["hours"])),
        figure("Hours / vanilla", "hours_factor", 1),
        figure("Paper hours", "paper_hours"),
        figure("Paper hours / vanilla", "paper_hours_factor", 1), words("Verdict", "verdict"),
    )  # fmt: skip
    caption = (
        "Per replicate, mean over replicates, without dense training and pruning. Hours are "
        f"{clocks(collection)} of the trainings, the paper's are GPU hours of an RTX A4000, which "
        "is never comparable: compare the factors. They take one clock, and on a CPU processor "
        "time only, as wall clock there measures what else ran too. Epochs / vanilla says how "
        "many plain trainings an arm is worth, on any machine. SAFS fast starts from what the "
        "ratio below found, whose cost stands in the row of that ratio. Table 3's own hours fit "
        "no single reading of its folds (see the contradictions)."
    )
    return Table.of("cost", "Cost (the paper's Table 3)", caption, rows, columns)


def _row(
    collection: Collection, context: Context, pair: str, ratio: float, arm: str
) -> dict[str, Any]:
    def value(column: str, of: str = arm) -> float:
        return mean(collection, pair, ratio, of, column)

    hours = paper.hours(context.pairs[pair].published) if ratio == MAIN_RATIO else {}
    printed = hours.get(arm, np.nan)
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "arm": arm}
    row["n"] = len(collection.series(pair, ratio, arm, "seconds"))
    row |= {f"epochs_{name}": value(f"epochs_{name}") for name in PURPOSES}
    row["epochs"] = value("epochs")
    row["epochs_factor"] = over(value("epochs"), value("epochs", "vanilla"))
    row["hours"] = value("seconds") / 3600
    row["hours_factor"] = time_factor(collection, pair, ratio, arm)
    return row | {
        "paper_hours": printed,
        "paper_hours_factor": over(printed, hours.get("vanilla", np.nan)),
        "verdict": NOT_COMPARABLE if math.isfinite(printed) else "",
    }
