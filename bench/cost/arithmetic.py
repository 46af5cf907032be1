"""The paper's Table 3 recomputed from its Tables 4 to 7, under every reading of what it covers.

Tables 5 to 7 print the GPU hours of a dense training and its epochs, so the hours of one epoch;
Table 4 and the released code say how many epochs a search has. Which of them Table 3 adds up is not
said, and no single reading fits it throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from bench import paper
from bench.columns import figure, share_off, words
from bench.render import ABSENT, Column, Table

STAGE_2_TRIALS = 20
"""Trials of stage 2 in the released code; the paper prints none."""
FITS = 0.15
"""A reading fits a printed number if it is off by no more than this share of it."""

EpochsOf = Callable[[int, int, int], int]
"""Epochs of a reading, given those of stage 1, of stage 2 and of the final training."""

SAFS: dict[str, EpochsOf] = {
    "stage 1, one fold": lambda one, two, final: one,
    "stage 1, three folds": lambda one, two, final: 3 * one,
    "both stages and the final training, one fold": lambda one, two, final: one + two + final,
    "stage 1 in three folds, stage 2 and final in one": lambda one, two, final: (
        3 * one + two + final
    ),
    "everything in three folds": lambda one, two, final: 3 * (one + two + final),
}
VANILLA: dict[str, EpochsOf] = {
    "one fold": lambda one, two, final: final,
    "three folds": lambda one, two, final: 3 * final,
}


def rows() -> list[dict[str, Any]]:
    """One row per pair, arm and reading; ``off`` is relative to the printed hours."""
    facts = paper.facts()
    search = facts["settings"]["search"]
    one = search["iterations"] * search["epochs_per_candidate"]
    two = STAGE_2_TRIALS * search["epochs_per_candidate"]
    found = []
    for pair, printed in facts["cost"]["values"].items():
        dense = facts["settings"]["dense"][pair]
        epoch = dense["hours"] / dense["epochs"]
        for arm, readings in (("safs", SAFS), ("vanilla", VANILLA)):
            for name, epochs in readings.items():
                hours = epochs(one, two, dense["epochs"]) * epoch
                off = hours / printed[arm] - 1
                found.append(
                    {"pair": pair, "arm": arm, "printed": printed[arm], "epoch": epoch}
                    | {"implied": printed[arm] / epoch, "reading": name, "hours": hours}
                    | {"off": off, "fits": abs(off) <= FITS}
                )
    return found


def table() -> Table:
    """Every reading beside the printed hours, and where none fits."""
    found = rows()
    columns = (
        words("Pair", "pair"), words("Method", "arm"), figure("Printed hours", "printed"),
        figure("Hours of an epoch", "epoch", 4), figure("Implied epochs", "implied", 0),
        words("Reading", "reading"), figure("Hours", "hours"), share_off("Off by", "off"),
        Column("Fits", lambda row: "yes" if row["fits"] else ABSENT),
    )  # fmt: skip
    caption = (
        "Hours are epochs times the hours of one dense epoch (Tables 5 to 7); a reading fits if it "
        f"is off by at most {100 * FITS:.0f} %. Stage 2 has the released code's "
        f"{STAGE_2_TRIALS} trials, as the paper prints none. {misfits(found)}"
    )
    title = "The paper's Table 3 from its Tables 4 to 7"
    return Table.of("table3", title, caption, found, columns)


def misfits(found: list[dict[str, Any]]) -> str:
    """One sentence on the numbers that no reading fits, and one on what fits throughout."""
    groups = groupby(found, itemgetter("pair", "arm"))
    none = [" ".join(key) for key, each in groups if not any(r["fits"] for r in each)]
    text = f"No reading fits {', '.join(none)}." if none else "Every number has a reading."
    for arm, readings in (("safs", SAFS), ("vanilla", VANILLA)):
        own = [row for row in found if row["arm"] == arm]
        if not any(all(r["fits"] for r in own if r["reading"] == name) for name in readings):
            text += f" No single reading fits all pairs' {arm} hours."
    return text
